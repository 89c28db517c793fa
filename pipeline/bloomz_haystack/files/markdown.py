"""Cells -> a Markdown table, and Markdown -> HTML. Knows nothing of what the cells say."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>&#|~!])")


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    r"""Return a table in Markdown.

    :param heads: of the columns.
    :param rows: of cells, as many as heads.
    :param numbers: align all columns but the first to the right.
    :returns: lines without the last line end.

    >>> print(markdown_table(["mot", "word"], [["a|b", "c"]]))
    | mot | word |
    | --- | --- |
    | a\|b | c |
    """
    rule = ["---", *["--:" if numbers else "---"] * (len(heads) - 1)]
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (heads, *rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (lines[0], rule, *lines[1:]))


def as_written(text: str) -> str:
    r"""Return Markdown that shows a text as it is.

    :param text: of anybody.
    :returns: with a backslash before each character that would mean something.

    >>> as_written("2 * 3 < 7")
    '2 \\* 3 \\< 7'
    """
    return _SPECIAL.sub(r"\\\1", text)


def markdown_html(text: str) -> str:
    """Return Markdown as HTML.

    :param text: HTML inside it is shown, never run.
    :returns: elements for the body of a page.
    """
    from markdown_it import MarkdownIt

    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return html
