"""A kept run -> `table.md`, `results.json` and `report.html`: tables, two figures, the worst questions."""

import html
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bloomz_haystack.benchmark.report.plots import theme_figure, top_k_figure
from bloomz_haystack.benchmark.report.table import Table, make_table, ranks_of, table_markdown
from bloomz_haystack.benchmark.run.results_folder import KeptRun, Row, read_run
from bloomz_haystack.files.markdown import as_written, markdown_html, markdown_table
from haystack_integrations.common.bloomz.whole_files import write_whole

WORST = 10
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: right; vertical-align: top }
th:first-child, td:first-child, h2 + table td { text-align: left }
svg { max-width: 100%; height: auto } code { white-space: pre-wrap }
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
    :param ties: `fair` or `optimistic`.
    :param against: the row that the others are tested against; None takes the first measured one.
    :returns: the table.
    :raises ValueError: if the folder holds no results, or the arguments do not fit them.
    :raises ImportError: without matplotlib.
    """
    run = read_run(folder)
    table = make_table(run, ties, against)
    write_whole(folder / "table.md", table_markdown(table))
    write_whole(folder / "results.json", json.dumps(table_values(table), ensure_ascii=False, indent=1))
    write_whole(folder / "report.html", report_page(run, table))
    return table


def worst_questions(run: KeptRun, row: Row, ties: str = "fair", count: int = WORST) -> list[WorstQuestion]:
    """Return the questions whose right passage stands furthest down.

    :param run: gives the texts.
    :param row: measured.
    :param ties: `fair` or `optimistic`.
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
    """Return the row whose errors are shown.

    :param run: any.
    :param ties: `fair` or `optimistic`.
    :returns: the measured row of the highest MRR; None if there is none.
    """
    measured = [row for row in run.rows if row.measured]
    return max(measured, key=lambda row: float((1 / ranks_of(row, ties)).mean()), default=None)


def table_values(table: Table) -> dict[str, Any]:
    """Return the table as plain values.

    :param table: from `make_table`.
    :returns: what `results.json` holds.
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


def report_page(run: KeptRun, table: Table) -> str:
    """Return the page: one file, nothing fetched.

    :param run: for figures and errors.
    :param table: of it.
    :returns: HTML.
    """
    title = html.escape(table.facts.corpus)
    parts = [f"<h1>{title}</h1>", markdown_html(table_markdown(table))]
    best = best_row(run, table.ties)
    if best is not None:
        parts += [_svg(top_k_figure(run, table.ties)), _svg(theme_figure(run, best, table.ties))]
        parts.append(markdown_html(_worst_markdown(best, worst_questions(run, best, table.ties))))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _worst_markdown(row: Row, worst: list[WorstQuestion]) -> str:
    rows = [[f"{w.rank:g}", *map(as_written, (w.question, w.gold + "…", w.first + "…"))] for w in worst]
    heads = ["rank", "question", "right passage", "ranked first instead"]
    return f"## Worst questions of {as_written(row.label)}\n\n{markdown_table(heads, rows)}"


def _svg(figure: Any) -> str:  # noqa: ANN401
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in values.items()}
