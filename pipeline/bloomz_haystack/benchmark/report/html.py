"""A kept run -> `report.html`: one page, nothing fetched: the sheets of its table, two figures, the worst questions.

Its style and its script, which sorts the sheets, are `page.css` and `page.js`.
"""

import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from bloomz_haystack.benchmark.report.plots import theme_figure, top_k_figure
from bloomz_haystack.benchmark.report.sheets import Sheet, facts_markdown, full_name, sheets_of
from bloomz_haystack.benchmark.report.table import Line, Table
from bloomz_haystack.benchmark.report.worst_questions import (
    Errors,
    WorstQuestion,
    best_row,
    errors_of,
    marked_html,
)
from bloomz_haystack.benchmark.run.results_folder import KeptRun
from bloomz_haystack.files.markdown import markdown_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDERS = re.compile(r"[^\s+]*[/\\](?=[^\s/\\])")
MARKS = 'Marked: <mark>words of the question</mark>, underlined: <mark class="only">not in the other passage</mark>.'


def report_page(run: KeptRun, table: Table) -> str:
    """Return the page.

    :param run: for figures and errors.
    :param table: of it.
    :returns: HTML.
    """
    title, names = html.escape(table.facts.corpus), short_names([line.name for line in table.lines])
    parts = [f'<h1>{title}</h1><div class="facts">{markdown_html(facts_markdown(table))}</div>']
    parts += [_sheet(sheet, names) for sheet in sheets_of(table)]
    parts.insert(2, _full_names(table, names))
    best = best_row(run, table.ties)
    if best is not None:
        ranks, themes = top_k_figure(run, table.ties, names), theme_figure(run, best, table.ties, names)
        drawn = _figure(ranks, "Questions answered within the first k passages") + _figure(themes, "Ranks by theme")
        parts += [f'<h2>Ranks</h2><div class="figures">{drawn}</div>']
        parts.append(_errors(errors_of(run, best, table.ties), names[best.name], table.facts.questions))
    return _whole(title, "".join(parts))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names that fit into a table.

    :param names: of rows; models in them may be folders or names of the Hub.
    :returns: each name without the folders before its models, where that leaves it the only one of its kind.

    >>> short_names(["bm25+runs/new > runs/ranker (50)", "a/one", "b/one"])
    {'bm25+runs/new > runs/ranker (50)': 'bm25+new > ranker (50)', 'a/one': 'a/one', 'b/one': 'b/one'}
    """
    short = [_FOLDERS.sub("", name) for name in names]
    count = Counter(short)
    return {name: cut if count[cut] == 1 else name for name, cut in zip(names, short, strict=True)}


def _whole(title: str, body: str) -> str:
    style, script = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style>"
    )
    content = f"<main>{body}</main><script>{script}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{content}</body></html>\n'


def _sheet(sheet: Sheet, names: dict[str, str]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in ("system", *sheet.heads))
    heads = heads.replace("Top-", "Top&#8209;")  # a hyphen that does not break
    rows = "".join(_row(names[line.name], cells) for line, cells in sheet.rows)
    table = f"<caption>{sheet.title}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    region = f'<div class="scroll" role="region" aria-label="{sheet.title}" tabindex="0"><table>{table}</table></div>'
    return f'{region}<p class="note">{html.escape(sheet.note)}</p>'


def _row(name: str, cells: Sequence[str]) -> str:
    shown = "".join(f"<td>{html.escape(_unbroken(cell))}</td>" for cell in cells)
    return f'<tr><th scope="row">{html.escape(name)}</th>{shown}</tr>'


def _unbroken(cell: str) -> str:
    """A figure stays beside its mark, an interval on one line; what was published may go to the next."""
    return re.sub(r"(?<=\d)–", "\u2060–\u2060", cell.replace(" ", "\u00a0", 1))


def _full_names(table: Table, names: dict[str, str]) -> str:
    rows = [f"<dt>{html.escape(names[line.name])}</dt><dd>{html.escape(_in_full(line))}</dd>" for line in table.lines]
    return f"<dl>{''.join(rows)}</dl>"


def _in_full(line: Line) -> str:
    return full_name(line) if line.figures else f"{line.label} ({line.state})"


def _errors(errors: Errors, name: str, questions: int) -> str:
    title = f"<h2>Worst questions of {html.escape(name)}</h2>"
    if not errors.worst:
        return f"{title}<p>None is wrong: the right passage stands first for all {questions:,} questions.</p>"
    shown = "" if len(errors.worst) == errors.total else f", the worst {len(errors.worst)} first"
    note = f"{errors.total:,} of {questions:,} questions have another passage first{shown}. {MARKS}"
    return f'{title}<p class="note">{note}</p><ol class="worst">{"".join(map(_worst, errors.worst))}</ol>'


def _worst(wrong: WorstQuestion) -> str:
    theme = f" · {html.escape(wrong.theme)}" if wrong.theme else ""
    place = f'<p class="place"><strong>Right passage at rank {wrong.rank:g}</strong>{theme}</p>'
    right = _text("Right passage", wrong.gold_score, marked_html(wrong.gold, wrong.question, wrong.first))
    first = _text("Ranked first", wrong.first_score, marked_html(wrong.first, wrong.question, wrong.gold))
    return f'<li><h3>{html.escape(wrong.question)}</h3>{place}<div class="texts">{right}{first}</div></li>'


def _text(title: str, score: float, marked: str) -> str:
    told = title if math.isnan(score) else f"{title}, score {score:.2f}"
    return f"<div><h4>{told}</h4><p>{marked}</p></div>"


def _figure(figure: "Figure", title: str) -> str:
    """Draw in the colours of the page, whatever they are: black becomes its ink, white its paper."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace("#000000", "currentColor").replace("#ffffff", "var(--paper)")
    return f'<figure>{drawn.replace("<svg", f"""<svg role="img" aria-label="{title}" """, 1)}</figure>'
