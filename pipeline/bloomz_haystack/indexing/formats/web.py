"""An HTML page or a Markdown file -> its text.

All that a reader sees is kept: lists in tables, asides, labels, lists of links, footers. Haystack's converter
(trafilatura) keeps what it takes for the article. Left out: scripts, styles, menus (`nav`), titles of icons.
Markdown becomes HTML first, so both have one walk.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from bloomz_haystack.indexing.formats.decoding import decode
from bloomz_haystack.indexing.formats.extract import Extract, UnreadableFileError
from bloomz_haystack.indexing.formats.json_lines import check_metadata
from bloomz_haystack.indexing.formats.line_ends import rejoined
from haystack_integrations.common.bloomz.plain_text import plain_text

_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_SKIPPED = {"script", "style", "template", "noscript", "nav", "head", "title", "desc", "metadata", "defs", "iframe"}
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "dialog", "dir"),
    *("div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
    *("header", "hgroup", "hr", "legend", "li", "main", "menu", "ol", "optgroup", "option", "p", "pre", "search"),
    *("section", "select", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
}
_CELLS, _APART = {"td", "th"}, {"a", "button", "label"}
_CELL_END = re.compile(r"[ \t\n]*\x1f[ \t\n]*")
_SPACES = re.compile(r"[ \t\r\n\f]+")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
LONGEST_FRONT_MATTER = 65536

HtmlElement = Any  # lxml has no types


def read_html(file: BinaryIO) -> Iterator[Extract]:
    """Read a page.

    :param file: open, at its beginning.
    :yields: its text; the title is that of its head, else its first heading.
    """
    page, notes = decode_page(file.read())
    if not page.strip():
        raise UnreadableFileError("the file is empty")
    root = _parse(plain_text(page))
    text = page_text(root)
    if not text:
        raise UnreadableFileError("no text could be read from it: a script may write it in the browser")
    title = _first(root, "title") or _first(root, "h1")
    yield Extract(text, {"title": title} if title else {}, notes=notes)


def read_markdown(file: BinaryIO) -> Iterator[Extract]:
    """Read a Markdown file.

    :param file: open, at its beginning.
    :yields: its text; the front matter is its metadata, and the title stands there, else in the first heading.
    """
    source, notes = decode(file.read())
    source, meta, more = _without_front_matter(plain_text(source.replace("\r\n", "\n")))
    root = _parse(_markdown().render(source)) if source.strip() else None
    text = page_text(root) if root is not None else ""
    title = meta.get("title") or (_first(root, "h1") if root is not None else "")
    yield Extract(text, {**meta, "title": title} if title else meta, notes=notes + more)


def decode_page(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Decode a page as it declares itself, unless it is UTF-8 or the declaration is of no use.

    :param data: the whole page.
    :returns: its text, and what was odd about it.
    :raises UnreadableFileError: if it is not text.
    """
    declared = _CHARSET.search(data, 0, 4096)
    name = declared[1].decode("ascii").lower() if declared else ""
    try:
        codec = codecs.lookup(name).name
        if codec in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-7") or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return decode(data)
        data.decode("utf-8")
        return decode(data)  # whatever it says
    except LookupError:
        return decode(data)
    except UnicodeDecodeError:
        # What calls itself Latin-1 or ASCII is Windows-1252 for every browser.
        codec = "cp1252" if codec in ("iso8859-1", "ascii") else codec
        text = str(data.decode(codec, "replace"))
        lost = text.count("\ufffd")
        return text, (f"{lost} bytes of it are not {name}",) if lost else ()


def page_text(root: HtmlElement) -> str:
    """Return all that a reader of the page sees.

    :param root: of the page.
    :returns: a line a paragraph, a list item or a table row, with " | " between its cells.
    """
    from lxml import etree

    parts: list[str] = []
    preformatted = 0
    walker = etree.iterwalk(root, events=("start", "end", "comment", "pi"))
    for event, node in walker:
        tag = node.tag if isinstance(node.tag, str) else ""
        if event == "start":
            if tag in _SKIPPED:
                walker.skip_subtree()
                continue
            preformatted += tag == "pre"
            parts += [_before(node, tag), _flow(node.text, preformatted), node.get("alt") or "" if tag == "img" else ""]
            continue
        if tag not in _SKIPPED:
            preformatted -= tag == "pre"
            parts.append("\n" if tag in _BLOCKS else "")
        if node is not root:
            parts.append(_flow(node.tail, preformatted))
    text = _CELL_END.sub(" | ", "".join(parts))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.strip(" \t") for line in text.split("\n"))).strip()


def _before(node: HtmlElement, tag: str) -> str:
    if tag in _BLOCKS:
        return "\n"
    previous = node.getprevious()
    neighbour = previous.tag if previous is not None else None
    if tag in _CELLS and neighbour in _CELLS:
        return "\x1f"
    # Links of a list are set apart by the style sheet only.
    return " " if tag in _APART and neighbour in _APART and not (previous.tail or "") else ""


def _flow(text: str | None, preformatted: int) -> str:
    if not text or preformatted:
        return text or ""
    return _SPACES.sub(" ", rejoined(text) if "\n" in text else text)


def _parse(page: str) -> HtmlElement:
    from lxml import html

    # As bytes: lxml refuses a text that declares an encoding. Without huge_tree, what is nested 256 deep is lost.
    parser = html.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True)
    try:
        return html.document_fromstring(page.encode("utf-8", "replace"), parser=parser)
    except Exception as error:
        raise UnreadableFileError(f"no text could be read from it: {error}") from None


def _first(root: HtmlElement, tag: str) -> str:
    """The text of the first such element, icons' titles apart."""
    for node in root.iter(tag):
        if next(node.iterancestors("svg"), None) is None:
            return " ".join(page_text(node).split()) if tag != "title" else " ".join((node.text or "").split())
    return ""


def _markdown() -> Any:  # noqa: ANN401
    from lxml.html import defs
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True, "maxNesting": 500}).enable(["table", "strikethrough"])
    parser.disable("reference")  # it takes a footnote of one word, "[^1]: word", for a link and drops it

    def inline(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:  # noqa: ANN401
        source = str(tokens[index].content)
        name = re.match(r"</?\s*([\w-]+)", source)
        # "run <file>" is no tag: it would be lost.
        return source if name is None or name[1].lower() in defs.tags else source.replace("<", "&lt;")

    parser.add_render_rule("html_inline", inline)
    return parser


def _without_front_matter(source: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Split off YAML between two lines of dashes; what is no mapping there is text."""
    import yaml

    match = _FRONT_MATTER.match(source)
    if match is None or len(match[1]) > LONGEST_FRONT_MATTER:
        return source, {}, ()
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(match[1])):
            raise ValueError("aliases")  # a few lines of them are gigabytes
        meta = json.loads(json.dumps(yaml.safe_load(match[1]), default=str))
        if not isinstance(meta, dict):
            return source, {}, ()
        check_metadata(meta)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        return source, {}, (f"its front matter was read as text, since it is no plain YAML: {reason}",)
    return source[match.end() :], meta, ()
