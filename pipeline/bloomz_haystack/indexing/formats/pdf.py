"""A PDF -> its text, page by page; pages without text are named."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, BinaryIO

from bloomz_haystack.files.printable import counted
from bloomz_haystack.indexing.formats.extract import Extract, UnreadableFileError, ranges

DRAWN = 2000  # bytes of drawing that make a page without text worth naming; an empty page has some too

# TeX sets an accent as a character of its own, before its letter; with a cedilla also after it.
_ACCENTS = {"\u00b4": "\u0301", "`": "\u0300", "\u02c6": "\u0302", "\u00a8": "\u0308", "\u02dc": "\u0303"}
_ACCENTED = re.compile("([\u00b4\u02c6\u00a8\u02dc])([^\\W\\d_])|(?<!`)(`)([aeuAEU])(?![^\\s`]{0,40}`)")
_CEDILLA = re.compile("([cC])\u00b8|\u00b8([cC])")


def read_pdf(file: BinaryIO) -> Iterator[Extract]:
    """Read a PDF; one that is encrypted without a password is opened.

    :param file: open, at its beginning.
    :yields: one text, with a form feed between pages.
    """
    from pypdf import PdfReader

    if not file.read(1):
        raise UnreadableFileError("the file is empty")
    file.seek(0)
    reader = PdfReader(file)
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableFileError("protected by a password: save it without one")
    texts, bare, broken = [], [], []
    for number, page in enumerate(reader.pages, start=1):
        try:
            text = composed(_page_text(page))
            if not text.strip() and _shows_something(page):
                bare.append(number)
        except Exception as error:  # a broken page may bring out anything in the parser
            text = ""
            broken.append((number, error))
        texts.append(text)
    texts[-1:] = ["\n".join(part for part in (*texts[-1:], _form_fields(reader)) if part)]
    if broken and not any(text.strip() for text in texts):
        raise UnreadableFileError(f"no page of it could be read: {broken[0][1]}")
    if not any(text.strip() for text in texts):
        raise UnreadableFileError("no text in it; a scanned PDF needs OCR first")
    yield Extract("\f".join(texts), notes=tuple(_notes(bare, broken)))


def _notes(bare: list[int], broken: list[tuple[int, Exception]]) -> Iterator[str]:
    if bare:
        yield f"no text on {counted(len(bare), 'page')} of it ({ranges(bare)}): scanned pages need OCR first"
    if broken:
        numbers = ranges([number for number, _ in broken])
        yield f"{counted(len(broken), 'page')} of it unreadable ({numbers}): {str(broken[0][1])[:100]}"


def _page_text(page: Any) -> str:  # noqa: ANN401
    """The text of a page, and what was typed on it as an annotation."""
    texts = [page.extract_text()]
    for reference in page.get("/Annots") or []:
        annotation = reference.get_object()
        if annotation.get("/Subtype") == "/FreeText" and annotation.get("/Contents"):
            texts.append(str(annotation["/Contents"]))
    return "\n".join(texts)


def _shows_something(page: Any) -> bool:  # noqa: ANN401
    if (page.get("/Resources") or {}).get("/XObject"):
        return True
    contents = page.get_contents()
    data = contents.get_data() if contents is not None else b""
    return len(data) > DRAWN or b"\nBI" in data or data.startswith(b"BI")


def _form_fields(reader: Any) -> str:  # noqa: ANN401
    try:
        fields = reader.get_form_text_fields(full_qualified_name=False) or {}
    except Exception:  # a form that cannot be read has its page's text all the same
        return ""
    return "\n".join(f"{name}: {value}" for name, value in fields.items() if value)


def composed(text: str) -> str:
    """Put accents that stand before their letter on it.

    :param text: of a page.
    :returns: the text; an accent that makes no letter stays.

    >>> composed("l’\u00b4et\u00b4e `a l’\u02c6\u0131le, gar\u00b8con")
    'l’été à l’île, garçon'
    """

    def letter(match: re.Match[str]) -> str:
        accent, base = match[1] or match[3], match[2] or match[4]
        made = unicodedata.normalize("NFC", base.replace("\u0131", "i") + _ACCENTS[accent])
        return made if len(made) == 1 else match[0]

    text = _ACCENTED.sub(letter, text)
    return _CEDILLA.sub(lambda match: "\u00e7" if "c" in match[0] else "\u00c7", text)
