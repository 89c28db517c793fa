"""Ways to do the same work -> seconds of each, in interleaved rounds; checked first to give the same numbers.

Knows neither models nor texts: a way is a function of a list of items. Ours comes first and is what the others are
compared with.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bloomz_haystack.benchmark.speed.limits import Probes, Rates, Work
from bloomz_haystack.benchmark.speed.memory import run_measuring_memory

Results = npt.NDArray[np.floating[Any]]
Clock = Callable[[], float]


class Way(NamedTuple):
    """One way to do the work; of those of one `family` (an alternative's settings) only the fastest is timed."""

    name: str
    run: Callable[[Sequence[Any]], Results]  # items -> one row an item
    family: str = ""
    ours: bool = False
    tolerance: float | None = None  # of other arithmetic (int8), which has its own; None: the section's


class Missing(NamedTuple):
    """A way that is not timed, and why."""

    name: str
    reason: str


class Section(NamedTuple):
    """One comparison."""

    name: str
    title: str
    unit: str  # what an item is, in the plural
    items: Sequence[Any]
    ways: list[Way]  # ours first
    missing: list[Missing]
    tokens: int  # of all items, without padding; 0 where there are none
    work: Work  # what no way can do without
    tolerance: float  # largest difference from our results
    note: str = ""  # what is known beside the seconds, such as bytes on disk


class Timing(NamedTuple):
    """One way, timed."""

    way: Way
    seconds: list[float]  # a round each
    trial_seconds: float  # of the run that was checked
    largest_difference: float
    peak_bytes: int | None

    @property
    def name(self) -> str:
        """Of the way."""
        return self.way.name

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


class Measured(NamedTuple):
    """A section's ways, ours first, and the machine's rates in the same rounds."""

    section: Section
    timings: list[Timing]
    rates: Rates
    passed_over: dict[str, float]  # settings slower than another of their family: seconds of their only run


def measure_section(
    section: Section,
    probes: Probes,
    rounds: int,
    device: torch.device,
    *,
    progress: Callable[[str], object] = lambda _: None,
    clock: Clock = time.perf_counter,
) -> Measured:
    """Check every way once, then time them in turns.

    :param section: what to compare.
    :param probes: timed in each round too.
    :param rounds: how many.
    :param device: waited for before the clock is read.
    :param progress: called with what runs now.
    :param clock: seconds.
    :returns: the timings.
    :raises ValueError: if a way gives other results than ours.
    """
    trials: list[Timing] = []
    expected: Results | None = None
    for way in section.ways:
        progress(f"{section.name} · check · {way.name}")
        trial, results = _try(way, section, expected, device, clock)
        expected = results if expected is None else expected
        trials.append(trial)
    chosen = fastest_of_families(section.ways, trials)
    names = [section.ways[place].name for place in chosen]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    product, read = [], []
    for number in range(rounds):
        # Each round starts with another way: what disturbs the machine does not always fall on the same one.
        for step in range(len(chosen)):
            way = section.ways[chosen[(number + step) % len(chosen)]]
            progress(f"{section.name} · round {number + 1}/{rounds} · {way.name}")
            seconds[way.name].append(timed(lambda way=way: way.run(section.items), device, clock))  # type: ignore[misc]
            # After every way and not once a round: a limit taken in one quiet moment would be above the others'.
            product.append(probes.product_work / timed(probes.product, device, clock))
            read.append(probes.read_work / timed(probes.read, device, clock))
    rates = Rates(statistics.median(product), statistics.median(read))
    timings = [trials[place]._replace(seconds=seconds[section.ways[place].name]) for place in chosen]
    passed_over = {trial.name: trial.trial_seconds for trial in trials if trial.name not in names}
    return Measured(section, timings, rates, passed_over)


def timed(run: Callable[[], object], device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Time one run.

    :param run: what to time.
    :param device: waited for before and after.
    :param clock: seconds.
    :returns: seconds.
    """
    _wait(device)
    begun = clock()
    run()
    _wait(device)
    return clock() - begun


def fastest_of_families(ways: Sequence[Way], trials: Sequence[Timing]) -> list[int]:
    """Choose one way of each family, by its first run.

    :param ways: in order; without a family, a way is always chosen.
    :param trials: their first runs.
    :returns: positions of the chosen.
    """
    best: dict[str, int] = {}
    for place, (way, trial) in enumerate(zip(ways, trials, strict=True)):
        family = way.family or way.name
        if family not in best or trial.trial_seconds < trials[best[family]].trial_seconds:
            best[family] = place
    return sorted(best.values())


def ratios(ours: Timing, other: Timing) -> list[float]:
    """Return how many times faster ours was, round by round: what slows a whole round down divides out.

    :param ours: timed.
    :param other: timed in the same rounds.
    :returns: one ratio a round; 2.0 where the other took twice as long.
    """
    return [theirs / mine for mine, theirs in zip(ours.seconds, other.seconds, strict=True)]


def _try(
    way: Way, section: Section, expected: Results | None, device: torch.device, clock: Clock
) -> tuple[Timing, Results]:
    """Run once on two items, to allocate what is allocated once, then on all of them: measure memory, check."""
    way.run(section.items[:2])
    _wait(device)
    begun = clock()
    results, peak = run_measuring_memory(lambda: way.run(section.items), device)
    took = clock() - begun
    difference = 0.0 if expected is None else _largest_difference(way, section, results, expected)
    return Timing(way, [], took, difference, peak), results


def _largest_difference(way: Way, section: Section, results: Results, expected: Results) -> float:
    if results.shape != expected.shape:
        raise ValueError(
            f"{section.name}: {way.name} gave results of shape {results.shape}, ours {expected.shape}: not comparable"
        )
    difference = float(np.abs(results - expected).max())
    tolerance = section.tolerance if way.tolerance is None else way.tolerance
    if not difference <= tolerance:  # NaN too
        raise ValueError(
            f"{section.name}: {way.name} and ours differ by {difference:.2g}, more than {tolerance:g}: "
            "it is not the same work, so it is not timed"
        )
    return difference


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
