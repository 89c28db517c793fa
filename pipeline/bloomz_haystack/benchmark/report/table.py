"""A kept run -> figures, intervals, p-values, and the Markdown table in the cards' layout. Needs no model."""

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
from bloomz_haystack.benchmark.figures.metrics import NAMES, figures
from bloomz_haystack.benchmark.figures.significance import bootstrap_intervals, paired_p_value
from bloomz_haystack.benchmark.report.expected import LEGEND, Expected, compare, expected_for
from bloomz_haystack.benchmark.run.results_folder import KeptRun, Row, RunFacts
from bloomz_haystack.files.markdown import markdown_table

TIES = {
    "fair": "a tie counts as the middle of its places (the expected rank)",
    "optimistic": "a tie counts as the best of its places",
}
HEADS = {
    "top_mean": "Top-mean",
    "top_std": "Top-std",
    "top_1": "Top-1",
    "top_5": "Top-5",
    "top_10": "Top-10",
    "top_100": "Top-100",
    "mrr": "MRR",
    "ndcg_10": "nDCG@10",
    "recall_100": "Recall@100",
    "gold_probability_mean": "mean probability of the right one",
    "gold_probability_std": "std",
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


def table_markdown(table: Table) -> str:
    """Return the table for people.

    :param table: from `make_table`.
    :returns: Markdown: facts, the cards' layout, intervals, abstention where it was asked for.
    """
    blocks = [_facts(table), _main(table), _intervals(table), _abstentions(table)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _facts(table: Table) -> str:
    facts = table.facts
    lines = [
        f"**{facts.corpus}** (questions / passages), protocol of the {facts.protocol}s: {facts.questions:,} questions, "
        f"{facts.passages:,} passages, {facts.themes:,} themes",
        f"Questions: {facts.rule}. Ranks: {TIES[table.ties]}.",
        *(f"{name}: SHA-256 {digest}" for name, digest in facts.files.items()),
        ", ".join(f"{key} {value}" for key, value in facts.measured.items() if key != "command"),
    ]
    if facts.measured.get("command"):
        lines.append(f"`{facts.measured['command']}`")
    return "\n".join(f"- {line}" for line in lines)


def _main(table: Table) -> str:
    shown = [name for name in HEADS if any(name in line.figures or name in line.published for line in table.lines)]
    shown = shown or list(NAMES)
    heads = ["system", *(HEADS[name] for name in shown), f"p ({table.against})"]
    rows = []
    for line in table.lines:
        cells = [_cell(name, line) for name in shown]
        p = "–" if line.p_value is None else f"{line.p_value:.4f}"
        state = "" if line.figures else " (not available here)"
        rows.append([line.label + state, *cells, p])
    legend = f"Measured{', mark, published: ' + LEGEND if table.expected else ''}. p: paired permutation test on MRR."
    if table.expected:
        legend = f"{legend} Published: {table.expected.title}."
    return markdown_table(heads, rows) + "\n\n" + legend


def _cell(name: str, line: Line) -> str:
    digits = ".2f" if name.startswith("gold") else ".1f"
    value, published = line.figures.get(name), line.published.get(name)
    if value is None:
        return "–" if published is None else f"– ({published:{digits}})"
    if published is None:
        return f"{value:{digits}}"
    return f"{value:{digits}} {compare(name, value, published)} {published:{digits}}"


def _intervals(table: Table) -> str:
    lines = [line for line in table.lines if line.intervals]
    heads = ["95 % interval", *(HEADS[name] for name in NAMES)]
    rows = [[line.label, *("{:.1f}–{:.1f}".format(*line.intervals[name]) for name in NAMES)] for line in lines]
    return markdown_table(heads, rows) + "\n\nBootstrap over the questions, 10,000 resamples." if lines else ""


def _abstentions(table: Table) -> str:
    rows = []
    for line in table.lines:
        if line.abstention is None:
            continue
        points = [("highest F1", line.abstention.best), *[("the cards'", p) for p in [line.abstention.card] if p]]
        for why, point in points:
            shares = (f"{100 * value:.1f}" for value in point[1:])
            error = "–" if line.calibration_error is None else f"{line.calibration_error:.3f}"
            rows.append([line.label, f"{point.threshold:.3f} ({why})", *shares, error])
    heads = ["abstention", "threshold", "precision", "coverage", "recall", "F1", "calibration error"]
    caption = f"With {table.facts.unanswerable:,} questions that no passage answers; precision of the first passage."
    return markdown_table(heads, rows) + f"\n\n{caption}" if rows else ""
