"""A kept run -> ``table.md``, ``results.json`` and ``report.html``: tables, two figures, the worst questions."""

import html
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bloomz_haystack.benchmark.report.expected import LEGEND, compare
from bloomz_haystack.benchmark.report.plots import theme_figure, top_k_figure
from bloomz_haystack.benchmark.report.table import HEADS, Line, Table, make_table, markdown, ranks_of
from bloomz_haystack.benchmark.run.results_folder import KeptRun, Row, read_run
from haystack_integrations.common.bloomz.whole_files import write_whole

WORST = 10
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: right; vertical-align: top }
th:first-child, td:first-child, .texts td { text-align: left }
small { color: #666; white-space: nowrap } svg { max-width: 100%; height: auto } code { white-space: pre-wrap }
"""


class WorstQuestion(NamedTuple):
    """A question whose right passage stands far down, and what was ranked first instead."""

    question: str
    rank: float
    gold: str
    first: str
    theme: str


def write_report(folder: Path, ties: str = "fair", against: str | None = None) -> Table:
    """Write all that people and machines read, from the kept ranks.

    :param folder: of results.
    :param ties: ``fair`` or ``optimistic``.
    :param against: the row that the others are tested against; None takes the first measured one.
    :returns: the table.
    :raises ValueError: if the folder holds no results, or the arguments do not fit them.
    :raises ImportError: without matplotlib.
    """
    run = read_run(folder)
    table = make_table(run, ties, against)
    write_whole(folder / "table.md", markdown(table))
    write_whole(folder / "results.json", json.dumps(as_json(table), ensure_ascii=False, indent=1))
    write_whole(folder / "report.html", as_html(run, table))
    return table


def worst_questions(run: KeptRun, row: Row, ties: str = "fair", count: int = WORST) -> list[WorstQuestion]:
    """Find the questions whose right passage stands furthest down.

    :param run: gives the texts.
    :param row: measured.
    :param ties: ``fair`` or ``optimistic``.
    :param count: how many.
    :returns: the worst first.
    """
    ranks = ranks_of(row, ties)
    found = []
    for place in np.argsort(-ranks, kind="stable")[:count]:
        question = run.questions[place]
        gold, first = run.passages[question["gold"]], run.passages[row.first[place]]
        found.append(
            WorstQuestion(question["text"], float(ranks[place]), gold["text"], first["text"], question["theme"])
        )
    return found


def best_row(run: KeptRun, ties: str) -> Row | None:
    """Choose the row that the errors are shown of.

    :param run: any.
    :param ties: ``fair`` or ``optimistic``.
    :returns: the measured row of the highest MRR; None if there is none.
    """
    measured = [row for row in run.rows if row.measured]
    return max(measured, key=lambda row: float((1 / ranks_of(row, ties)).mean()), default=None)


def as_json(table: Table) -> dict[str, Any]:
    """Give the table as plain values.

    :param table: from ``make_table``.
    :returns: what ``results.json`` holds.
    """
    lines = []
    for line in table.lines:
        value = line._asdict()
        if line.abstention:
            value["abstention"] = {key: p and _finite(p._asdict()) for key, p in line.abstention._asdict().items()}
        lines.append(value)
    facts = vars(table.facts)
    expected = table.expected and {"title": table.expected.title, "command": table.expected.command}
    return {"facts": facts, "ties": table.ties, "against": table.against, "expected": expected, "rows": lines}


def as_html(run: KeptRun, table: Table) -> str:
    """Draw the page: one file, nothing fetched.

    :param run: for figures and errors.
    :param table: of it.
    :returns: HTML.
    """
    facts = table.facts
    best = best_row(run, table.ties)
    parts = [
        f"<h1>{html.escape(facts.corpus)}</h1>",
        f"<p>{facts.questions:,} questions, {facts.passages:,} passages, {facts.themes:,} themes; {facts.rule}; "
        f"protocol of the {facts.protocol}s; ranks: {table.ties}.</p>",
        "<ul>",
        *(f"<li>{html.escape(name)}: SHA-256 <code>{digest}</code></li>" for name, digest in facts.files.items()),
        "</ul>",
        f"<p>{html.escape(', '.join(f'{k} {v}' for k, v in facts.measured.items() if k != 'command'))}<br>"
        f"<code>{html.escape(facts.measured.get('command', ''))}</code></p>",
        _html_table(table),
    ]
    if best is not None:
        parts += [_svg(top_k_figure(run, table.ties)), _svg(theme_figure(run, best, table.ties))]
        parts.append(_html_worst(best, worst_questions(run, best, table.ties)))
    title = f"<title>{html.escape(facts.corpus)}</title>"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}<style>{STYLE}</style></head>'
    return head + "<body>" + "\n".join(parts) + "</body></html>\n"


def _html_table(table: Table) -> str:
    shown = [name for name in HEADS if any(name in line.figures or name in line.published for line in table.lines)]
    heads = "".join(f"<th>{html.escape(HEADS[name])}</th>" for name in shown)
    rows = "".join(f"<tr><td>{html.escape(line.label)}</td>{_html_cells(line, shown)}</tr>" for line in table.lines)
    told = f"<p>Below a figure its 95 % interval. {LEGEND if table.expected else ''} p: paired permutation test on MRR"
    return f"<table><tr><th>system</th>{heads}<th>p</th></tr>{rows}</table>{told}, against {table.against}.</p>"


def _html_cells(line: Line, shown: list[str]) -> str:
    cells = []
    for name in shown:
        value, published = line.figures.get(name), line.published.get(name)
        digits = ".2f" if name.startswith("gold") else ".1f"
        text = "–" if value is None else f"{value:{digits}}"
        if name in line.intervals:
            text += "<br><small>{:.1f}–{:.1f}</small>".format(*line.intervals[name])
        if published is not None:
            mark = compare(name, value, published) if value is not None else "published"
            text += f"<br><small>{mark} {published:{digits}}</small>"
        cells.append(f"<td>{text}</td>")
    p = "–" if line.p_value is None else f"{line.p_value:.4f}"
    return "".join(cells) + (f"<td>{p}</td>" if line.figures else f"<td>{html.escape(line.state)}</td>")


def _html_worst(row: Row, worst: list[WorstQuestion]) -> str:
    heads = "<tr><th>rank</th><th>question</th><th>right passage</th><th>ranked first instead</th></tr>"
    rows = "".join(
        f"<tr><td>{w.rank:g}</td><td>{html.escape(w.question)}</td><td>{html.escape(w.gold)}…</td>"
        f"<td>{html.escape(w.first)}…</td></tr>"
        for w in worst
    )
    return f'<h2>Worst questions of {html.escape(row.label)}</h2><table class="texts">{heads}{rows}</table>'


def _svg(figure: Any) -> str:  # noqa: ANN401
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in values.items()}
