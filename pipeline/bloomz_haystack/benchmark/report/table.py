"""A kept run -> figures, intervals, p-values, when to keep silent: one line per system. Needs no model."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.figures.abstention import (
    Point,
    abstention_curve,
    best_point,
    expected_calibration_error,
    point_at,
)
from bloomz_haystack.benchmark.figures.metrics import figures
from bloomz_haystack.benchmark.figures.significance import bootstrap_intervals, paired_p_value
from bloomz_haystack.benchmark.report.expected import Expected, expected_for
from bloomz_haystack.benchmark.run.results_folder import KeptRun, Row, RunFacts

TIES = {
    "fair": "a tie counts as the middle of its places (the expected rank)",
    "optimistic": "a tie counts as the best of its places",
}
CARD_THRESHOLD = 0.8


class Abstention(NamedTuple):
    """When to keep silent: the threshold of the highest F1, and the cards' 0.8 where scores are probabilities."""

    best: Point
    card: Point | None


class Line(NamedTuple):
    """One row of the table; `figures` and `intervals` are empty where the system is not available."""

    name: str
    label: str
    state: str
    seconds: float
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    p_value: float | None
    published: dict[str, float]
    abstention: Abstention | None
    calibration_error: float | None  # of the first passage's probability, 15 bins


class Table(NamedTuple):
    """All lines over one run."""

    facts: RunFacts
    ties: str
    against: str | None
    expected: Expected | None
    lines: list[Line]


def make_table(run: KeptRun, ties: str = "fair", against: str | None = None) -> Table:
    """Return everything a table shows, from kept ranks.

    :param run: from `read_run`.
    :param ties: `fair` or `optimistic`.
    :param against: the row that the others are tested against; None takes the first measured one.
    :returns: the table.
    :raises ValueError: for an unknown way to rank ties, or a row that is not there.
    """
    if ties not in TIES:
        raise ValueError(f"ties must be one of {', '.join(TIES)}, but got {ties!r}")
    measured = {row.name: row for row in run.rows if row.measured}
    if against is not None and against not in measured:
        raise ValueError(f"no measured row is named {against!r}: choose from {', '.join(measured) or 'none'}")
    against = against or next(iter(measured), None)
    expected = expected_for(run.facts, ties)
    baseline = ranks_of(measured[against], ties) if against else np.empty(0)
    gold = np.array([question["gold"] for question in run.questions])
    lines = [_line(row, gold, ties, None if row.name == against else baseline, expected) for row in run.rows]
    return Table(run.facts, ties, against, expected, lines)


def ranks_of(row: Row, ties: str) -> npt.NDArray[np.float64]:
    """Return one of the two ranks kept of each question.

    :param row: measured.
    :param ties: `fair` or `optimistic`.
    :returns: (Q,) from 1.
    """
    return row.fair if ties == "fair" else row.optimistic.astype(np.float64)


def _line(
    row: Row,
    gold: npt.NDArray[np.int64],
    ties: str,
    baseline: npt.NDArray[np.float64] | None,
    expected: Expected | None,
) -> Line:
    published = expected.rows.get(row.name, {}) if expected else {}
    if not row.measured:
        return Line(row.name, row.label, row.state, row.seconds, {}, {}, None, published, None, None)
    ranks = ranks_of(row, ties)
    values = figures(ranks)
    seen = row.gold_probability[~np.isnan(row.gold_probability)]
    if len(seen):
        values |= {"gold_probability_mean": float(seen.mean()), "gold_probability_std": float(seen.std())}
    reranked, right = "ranker" in row.settings, np.equal(row.first, gold)
    return Line(
        row.name,
        row.label,
        row.state,
        row.seconds,
        values,
        bootstrap_intervals(ranks),
        None if baseline is None else paired_p_value(ranks, baseline),
        published,
        _abstention(row, right, reranked) if len(row.unanswerable_score) else None,
        expected_calibration_error(row.first_score, right) if reranked else None,
    )


def _abstention(row: Row, right: npt.NDArray[np.bool_], reranked: bool) -> Abstention:
    curve = abstention_curve(row.first_score, right, row.unanswerable_score)
    return Abstention(best_point(curve), point_at(curve, CARD_THRESHOLD) if reranked else None)
