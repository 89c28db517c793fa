"""Files on disk -> ``Paragraph``s, whatever the format: SQuAD, PIAF, the French slice of SQuAD.

Says where a file is broken (file, article, paragraph, question or line). Does not know how paragraphs become a corpus.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A question as a file holds it; ``answerable`` is false where SQuAD v2 says that the paragraph has no answer."""

    id: str
    text: str
    answerable: bool


class Paragraph(NamedTuple):
    """A passage, its theme (the title of its article, or nothing) and what was asked about it, in the file's order."""

    text: str
    theme: str
    asked: list[Asked]


def read_squad(path: Path) -> list[Paragraph]:
    """Read a file in SQuAD format, version 1.1 or 2.0.

    :param path: JSON, ``{data: [{title, paragraphs: [{context, qas: [{id, question, is_impossible}]}]}]}``.
    :returns: the paragraphs in the file's order.
    :raises ValueError: if the file is missing, empty, not JSON or not SQuAD: names the place.
    """
    paragraphs = []
    for place, article in _each(path, "article", load_json(path), "data"):
        theme = str(article.get("title", ""))
        for inner, paragraph in _each(path, f"{place}, paragraph", article, "paragraphs"):
            text = _text(path, inner, paragraph, "context")
            asked = [_asked(path, *entry) for entry in _each(path, f"{inner}, question", paragraph, "qas")]
            paragraphs.append(Paragraph(text, theme, asked))
    if not paragraphs:
        raise ValueError(f"{path} holds no paragraph: expected SQuAD format with at least one")
    return paragraphs


def read_piaf(path: Path) -> list[Paragraph]:
    """Read native French questions, in the flat form or in PIAF's own, which is SQuAD format.

    :param path: JSON, ``{passages: [{id, content}], queries: [{id, text, passage}]}`` or SQuAD format.
    :returns: the paragraphs in the file's order; the flat form has no themes.
    :raises ValueError: if the file is neither, or a query names a passage that is not there: names the place.
    """
    values = load_json(path)
    if isinstance(values, dict) and "data" in values:
        return read_squad(path)
    paragraphs: dict[str, Paragraph] = {}
    for place, passage in _each(path, "passage", values, "passages"):
        paragraphs[_text(path, place, passage, "id")] = Paragraph(_text(path, place, passage, "content"), "", [])
    for place, query in _each(path, "query", values, "queries"):
        passage_id = _text(path, place, query, "passage")
        if passage_id not in paragraphs:
            raise ValueError(f"{path}, {place}: passage {passage_id!r} is not in the file")
        question = Asked(_text(path, place, query, "id"), _text(path, place, query, "text"), True)
        paragraphs[passage_id].asked.append(question)
    return list(paragraphs.values())


class SliceRow(NamedTuple):
    """One question of the slice: both languages of the question and of its paragraph."""

    id: str
    theme: str
    questions: dict[str, str]
    contexts: dict[str, str]


def read_slice(path: Path) -> list[SliceRow]:
    """Read the questions of SQuAD that people translated into French.

    :param path: JSON lines, ``{id, title, question_fr, context_fr, question_en, context_en}``.
    :returns: the rows in the file's order; texts by language.
    :raises ValueError: if a line is not JSON or lacks a text: names the line.
    """
    rows = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        row = _parse(path, line, f", line {number}")
        texts = {key: _text(path, f"line {number}", row, key) for key in ("id", "title", *_SLICE_TEXTS)}
        questions, contexts = ({lang: texts[f"{side}_{lang}"] for lang in _LANGS} for side in ("question", "context"))
        rows.append(SliceRow(texts["id"], texts["title"], questions, contexts))
    return rows


_LANGS = ("fr", "en")
_SLICE_TEXTS = [f"{side}_{lang}" for side in ("question", "context") for lang in _LANGS]


def load_json(path: Path) -> Any:  # noqa: ANN401
    """Read one JSON value.

    :param path: UTF-8, with or without a byte order mark.
    :returns: the value.
    :raises ValueError: if the file is missing, empty, not UTF-8 or not JSON.
    """
    return _parse(path, _read(path), "")


def _read(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def _parse(path: Path, text: str, place: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}{place}: not JSON ({error})") from error


def _each(path: Path, kind: str, holder: object, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the value of each object of a list that a format promises."""
    values = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(values, list):
        # "article 2, paragraph" holds questions, "article" stands in the file itself.
        place = kind.rpartition(",")[0]
        raise ValueError(f"{path}{place and ', ' + place}: expected an object with a list named {key!r}")
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise ValueError(f"{path}, {kind} {number}: expected an object, but got {type(value).__name__}")
        yield f"{kind} {number}", value


def _text(path: Path, place: str, holder: object, key: str) -> str:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{path}, {place}: expected a text named {key!r}, but got {value!r}")
    return value


def _asked(path: Path, place: str, entry: dict[str, Any]) -> Asked:
    answerable = not entry.get("is_impossible", False)
    return Asked(_text(path, place, entry, "id"), _text(path, place, entry, "question"), answerable)
