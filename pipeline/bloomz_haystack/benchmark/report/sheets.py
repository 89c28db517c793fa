"""A table of results -> its sheets (figures, intervals, abstention), and all in Markdown, in the cards' layout."""

from typing import NamedTuple

from bloomz_haystack.benchmark.figures.metrics import NAMES
from bloomz_haystack.benchmark.report.expected import LEGEND, compare
from bloomz_haystack.benchmark.report.table import TIES, Line, Table
from bloomz_haystack.files.markdown import markdown_table

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


class Sheet(NamedTuple):
    """One of the tables that a page shows; its first column names the system."""

    title: str
    head: str  # of the first column
    heads: list[str]  # of the others
    rows: list[tuple[Line, list[str]]]
    note: str


def sheets_of(table: Table) -> list[Sheet]:
    """Return what there is to show of a table.

    :param table: from `make_table`.
    :returns: figures, intervals, and abstention where it was asked for.
    """
    sheets = [_figures(table), _intervals(table), _abstentions(table)]
    return [sheet for sheet in sheets if sheet.rows]


def table_markdown(table: Table) -> str:
    """Return the table for people.

    :param table: from `make_table`.
    :returns: Markdown: facts, then each sheet with its note.
    """
    blocks = [facts_markdown(table)]
    for sheet in sheets_of(table):
        rows = [[full_name(line), *cells] for line, cells in sheet.rows]
        blocks += [markdown_table([sheet.head, *sheet.heads], rows), sheet.note]
    return "\n\n".join(blocks) + "\n"


def full_name(line: Line) -> str:
    """Return what a system is called in full.

    :param line: of the table.
    :returns: its label, and whether it could not be measured.
    """
    return line.label if line.figures else f"{line.label} (not available here)"


def facts_markdown(table: Table) -> str:
    """Return what was measured, on what, by which command.

    :param table: from `make_table`.
    :returns: a list in Markdown.
    """
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


def _figures(table: Table) -> Sheet:
    shown = [name for name in HEADS if any(name in line.figures or name in line.published for line in table.lines)]
    shown = shown or list(NAMES)
    rows = []
    for line in table.lines:
        p = "–" if line.p_value is None else f"{line.p_value:.4f}"
        rows.append((line, [*(_cell(name, line) for name in shown), p]))
    note = f"Measured{', mark, published: ' + LEGEND if table.expected else ''}. p: paired permutation test on MRR."
    if table.expected:
        note = f"{note} Published: {table.expected.title}."
    heads = [*(HEADS[name] for name in shown), f"p ({table.against})"]
    return Sheet("Where the right passage stands", "system", heads, rows, note)


def _cell(name: str, line: Line) -> str:
    digits = ".2f" if name.startswith("gold") else ".1f"
    value, published = line.figures.get(name), line.published.get(name)
    if value is None:
        return "–" if published is None else f"– ({published:{digits}})"
    if published is None:
        return f"{value:{digits}}"
    return f"{value:{digits}} {compare(name, value, published)} {published:{digits}}"


def _intervals(table: Table) -> Sheet:
    lines = [line for line in table.lines if line.intervals]
    rows = [(line, ["{:.1f}–{:.1f}".format(*line.intervals[name]) for name in NAMES]) for line in lines]
    note = "Bootstrap over the questions, 10,000 resamples."
    return Sheet("95 % intervals", "95 % interval", [HEADS[name] for name in NAMES], rows, note)


def _abstentions(table: Table) -> Sheet:
    rows = []
    for line in table.lines:
        if line.abstention is None:
            continue
        points = [("highest F1", line.abstention.best), *[("the cards'", p) for p in [line.abstention.card] if p]]
        for why, point in points:
            shares = (f"{100 * value:.1f}" for value in point[1:])
            error = "–" if line.calibration_error is None else f"{line.calibration_error:.3f}"
            rows.append((line, [f"{point.threshold:.3f} ({why})", *shares, error]))
    heads = ["threshold", "precision", "coverage", "recall", "F1", "calibration error"]
    note = f"With {table.facts.unanswerable:,} questions that no passage answers; precision of the first passage."
    return Sheet("When to keep silent", "abstention", heads, rows, note)
