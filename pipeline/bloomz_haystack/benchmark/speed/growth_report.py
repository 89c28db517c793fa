"""Cost curves -> a table, plain values, and a figure with a fitted exponent on every curve. Measures nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomz_haystack.benchmark.report.plots import new_figure
from bloomz_haystack.benchmark.speed.growth import Series, exponent
from bloomz_haystack.files.markdown import markdown_table
from haystack_integrations.common.bloomz.whole_files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SECONDS_COLOUR, MEMORY_COLOUR, GUIDE_COLOUR = "#1b7837", "#2166ac", "#999999"


def growth_markdown(series: list[Series]) -> str:
    """Return one table a series.

    :param series: measured.
    :returns: Markdown.
    """
    return "\n\n".join(_table(one) for one in series)


def growth_values(series: list[Series], threads: int) -> dict[str, Any]:
    """Return the same as plain values.

    :param series: measured.
    :param threads: of every library.
    :returns: `threads`; by name of the series: sizes, seconds, bytes, exponents.
    """
    return {"threads": threads, "series": {one.name: {**one._asdict(), **exponents(one)} for one in series}}


def exponents(series: Series) -> dict[str, float | None]:
    """Return how seconds and memory grow.

    :param series: measured.
    :returns: `seconds_exponent` and `memory_exponent`, None where memory is not known or none was taken.
    """
    known = series.memory if all(series.memory) else None  # a run may take nothing that the system can see
    return {
        "seconds_exponent": exponent(series.sizes, series.seconds),
        "memory_exponent": exponent(series.sizes, known) if known else None,  # type: ignore[arg-type]
    }


def draw_growth(series: list[Series], file: Path) -> None:
    """Draw seconds above and memory below, a column for each series, on logarithmic axes.

    :param series: measured.
    :param file: PNG to write.
    :raises ImportError: without matplotlib.
    """
    figure = new_figure(6.4, width=12.5)
    rows = figure.subplots(2, len(series), sharex="col", squeeze=False)
    for (above, below), one in zip(rows.T, series, strict=True):
        fitted = exponents(one)
        _curve(above, one.sizes, one.seconds, fitted["seconds_exponent"], SECONDS_COLOUR)
        above.set(title=f"seconds to {one.what}", ylabel="seconds")
        megabytes = [size and size / 1e6 for size in one.memory]
        _curve(below, one.sizes, megabytes, fitted["memory_exponent"], MEMORY_COLOUR)
        below.set(title=f"memory {one.memory_of}", ylabel="MB", xlabel=one.unit)
    with replacing(file) as path:
        figure.savefig(path, format="png", dpi=150)


def _curve(axes: "Axes", sizes: list[int], costs: Sequence[float | None], fitted: float | None, colour: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    shown = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if cost]
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize("medium")
    if not shown:
        axes.text(0.5, 0.5, "not reported by this system", transform=axes.transAxes, ha="center", color=GUIDE_COLOUR)
        return
    xs, ys = zip(*shown, strict=True)
    axes.plot(xs, [ys[-1] * x / xs[-1] for x in xs], "--", color=GUIDE_COLOUR, linewidth=1, label="in proportion")
    label = "measured" if fitted is None else f"measured: size to the power of {fitted:.2f}"
    axes.plot(xs, ys, "o-", color=colour, label=label)
    axes.set_ylim(min(ys) / 3, max(ys) * 3)  # else a flat curve fills the height with its noise
    axes.legend(loc="best", fontsize="small", frameon=False)


def _short(size: int) -> str:
    """Write 20,119 as 20k: the ends of blocks of passages are not round."""
    return f"{size:,}" if size <= 2048 else f"{size / 1000:.0f}k"


def _table(series: Series) -> str:
    rows = [
        [
            f"{size:,}",
            f"{seconds:.3g}",
            f"{1000 * seconds / size:.3g}",
            "" if memory is None else f"{memory / 1e6:,.1f} MB",
        ]
        for size, seconds, memory in zip(series.sizes, series.seconds, series.memory, strict=True)
    ]
    fitted = exponents(series)
    grown = "not known" if fitted["memory_exponent"] is None else f"to the power of {fitted['memory_exponent']:.2f}"
    return (
        f"### Seconds to {series.what}; memory {series.memory_of}\n\n"
        + markdown_table([series.unit, "seconds", "seconds for 1,000", "memory"], rows, numbers=True)
        + f"\n\nSeconds grow with size to the power of {fitted['seconds_exponent']:.2f}, memory {grown}."
    )
