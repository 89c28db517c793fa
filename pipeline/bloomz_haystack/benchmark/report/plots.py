"""A kept run -> two figures: Top-k curve of each system, ranks by theme of one system. Made with matplotlib."""

from collections.abc import Mapping
from itertools import cycle
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.report.table import ranks_of
from bloomz_haystack.benchmark.run.results_folder import KeptRun, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = ((1, 1, "1"), (2, 5, "2–5"), (6, 10, "6–10"), (11, 100, "11–100"), (101, np.inf, "above 100"))
WIDTH = 5.5  # inches: legible on a telephone, two beside each other on a desktop
NO_NAMES: Mapping[str, str] = MappingProxyType({})
COLOURS = ("#1b7837", "#7fbf7b", "#d9d9d9", "#fdae61", "#d7301f")  # right first ... lost


def top_k_figure(run: KeptRun, ties: str, names: Mapping[str, str] = NO_NAMES) -> "Figure":
    """Draw the share of questions whose right passage is among the first k, for each system.

    :param run: with at least one measured row.
    :param ties: `fair` or `optimistic`.
    :param names: shown for rows; others are shown by their own name.
    :returns: a matplotlib figure.
    """
    measured = [row for row in run.rows if row.measured]
    figure = new_figure(4.0 + 0.2 * len(measured), WIDTH)
    axes = figure.subplots()
    ks = np.unique(np.geomspace(1, max(run.facts.passages, 2), 60).astype(np.int64))
    for row, style in zip(measured, cycle(("-", "--", "-.", ":"))):  # equal systems lie on one another
        ranks, name = np.sort(ranks_of(row, ties)), names.get(row.name, row.name)
        axes.plot(ks, 100 * np.searchsorted(ranks, ks, "right") / len(ranks), style, label=name)
    axes.set(xscale="log", xlabel="k (passages looked at)", ylabel="questions answered within the first k (%)")
    axes.set(ylim=(0, 101), title=run.facts.corpus)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower left", fontsize="small", frameon=False)
    return figure


def theme_figure(run: KeptRun, row: Row, ties: str, names: Mapping[str, str] = NO_NAMES) -> "Figure":
    """Draw how the ranks of one system spread, theme by theme, hardest theme first.

    :param run: gives the themes of the questions.
    :param row: measured.
    :param ties: `fair` or `optimistic`.
    :param names: shown for rows; others are shown by their own name.
    :returns: a matplotlib figure.
    """
    themes, shares = theme_shares(run, row, ties)
    figure = new_figure(1.5 + 0.22 * len(themes), WIDTH)
    axes = figure.subplots()
    left = np.zeros(len(themes))
    for (_, _, name), colour, share in zip(BINS, COLOURS, shares.T, strict=True):
        axes.barh(themes, share, left=left, color=colour, label=f"rank {name}")
        left += share
    axes.set(xlim=(0, 100), xlabel="share of the theme's questions (%)")
    axes.margins(y=0.01)
    figure.suptitle(f"{run.facts.corpus} · {names.get(row.name, row.name)}", fontsize="medium")
    axes.tick_params(axis="y", labelsize="small")
    figure.legend(
        loc="outside lower center",
        ncols=len(BINS),
        fontsize="small",
        frameon=False,
        columnspacing=1.0,
        handlelength=1.5,
    )
    return figure


def theme_shares(run: KeptRun, row: Row, ties: str) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Count ranks by theme.

    :param run: gives the themes of the questions.
    :param row: measured.
    :param ties: `fair` or `optimistic`.
    :returns: M themes with their question counts, the hardest last; (M, 5) shares of `BINS`, in percent.
    """
    ranks = np.ceil(ranks_of(row, ties))  # a tie between two bins belongs to the later one
    themes = np.array([question["theme"] or "without a title" for question in run.questions])
    names, places = np.unique(themes, return_inverse=True)
    counts = np.stack([np.bincount(places[(ranks >= a) & (ranks <= b)], minlength=len(names)) for a, b, _ in BINS], 1)
    totals = counts.sum(1)
    shares = 100 * counts / totals[:, None]
    order = np.argsort(-shares[:, 0], kind="stable")
    return [f"{names[i]} ({totals[i]})" for i in order], shares[order]


def new_figure(height: float, width: float = 9.0) -> "Figure":
    """Make an empty figure.

    :param height: inches.
    :param width: inches.
    :returns: a matplotlib figure, drawn without a screen.
    :raises ImportError: without matplotlib; the message says how to install it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('matplotlib is needed for figures: pip install "bloomz-haystack[benchmark]"') from error
    return Figure(figsize=(width, height), layout="constrained")
