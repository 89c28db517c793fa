"""A measured run -> one short table of ratios, and the machine that they hold for. Computes no time itself."""

import statistics
from typing import NamedTuple

from bloomz_haystack.benchmark.speed.harness import Measured, Timing, ratios
from bloomz_haystack.benchmark.speed.sections import SpeedRun
from bloomz_haystack.benchmark.speed.table import limit_seconds, speed_setting
from bloomz_haystack.files.markdown import markdown_table
from haystack_integrations.common.bloomz.int8_choice import in_words
from haystack_integrations.common.bloomz.linear import packed_operators

RATIO_HEADS = ("work", "way", "ms an item", "times ours above", "times the fastest other", "share of the limit")


class Ratio(NamedTuple):
    """How one way of ours compares, by the medians over the rounds."""

    way: str
    milliseconds: float  # an item
    against_first: float | None  # times the speed of the section's first way; None for that one
    fastest_other: str  # of the ways that are not ours; "" where there are none
    against_other: float | None
    share_of_limit: float | None  # of the section's arithmetic; None where the way does less, or other arithmetic


def speed_ratios(measured: Measured) -> list[Ratio]:
    """Return how every way of ours compares with the first one, with the fastest that is not ours, and with the limit.

    :param measured: a section.
    :returns: one a way of ours, in order.
    """
    return [_ratio(measured, timing) for timing in measured.timings if timing.way.ours]


def ratio_markdown(run: SpeedRun) -> str:
    """Return the table for people.

    :param run: measured.
    :returns: Markdown: what was run, one table, what is missing, and in the last lines the machine.
    """
    rows = [
        [measured.section.title if place == 0 else "", *_cells(ratio)]
        for measured in run.measured
        for place, ratio in enumerate(speed_ratios(measured))
    ]
    blocks = [speed_setting(run), markdown_table(RATIO_HEADS, rows, numbers=True)]
    absent = dict.fromkeys(
        f"{way.name} ({way.reason})" for measured in run.measured for way in measured.section.missing
    )
    if absent:
        blocks.append(f"Not measured: {'; '.join(absent)}.")
    return "\n\n".join([*blocks, "\n".join(machine_lines(run))])


def machine_lines(run: SpeedRun) -> list[str]:
    """Return the machine, its rates, and the engines that were chosen on it.

    :param run: measured.
    :returns: a line each.
    """
    product, read = ([getattr(measured.rates, name) for measured in run.measured] for name in ("flop", "bytes_read"))
    rates = f"{statistics.median(product) / 1e9:,.0f} GFLOP/s, {statistics.median(read) / 1e9:,.1f} GB/s"
    engine = "oneDNN, weights packed" if packed_operators() else "torch's own"
    return [
        f"CPU: {run.processor.in_words()}",
        f"Limit: matrix product and memory read, {rates}, medians of what each section measured",
        f"float32 linears: {engine}",
        f"int8 linears: {in_words(run.kernels) or 'none measured'}",
    ]


def _ratio(measured: Measured, timing: Timing) -> Ratio:
    first = measured.timings[0]
    others = [other for other in measured.timings if not other.way.ours]
    fastest = min(others, key=lambda other: other.median, default=None)
    return Ratio(
        timing.name,
        1000 * timing.median / len(measured.section.items),
        None if timing is first else _times(timing, first),
        fastest.name if fastest else "",
        _times(timing, fastest) if fastest else None,
        limit_seconds(measured) / timing.median if timing.way.tolerance is None else None,
    )


def _times(ours: Timing, other: Timing) -> float:
    return statistics.median(ratios(ours, other))


def _cells(ratio: Ratio) -> list[str]:
    first, other, limit = ratio.against_first, ratio.against_other, ratio.share_of_limit
    return [
        ratio.way,
        f"{ratio.milliseconds:.3g}",
        "" if first is None else f"{first:.2f}",
        "" if other is None else f"{other:.2f} {ratio.fastest_other}",
        "" if limit is None else f"{100 * limit:.0f} %",
    ]
