"""Files on disk -> `SquadParagraph`s, whatever the format: SQuAD, PIAF, the French slice of SQuAD.

Says where a file is broken. Does not know how paragraphs become a corpus.
"""

from pathlib import Path
from typing import NamedTuple

from bloomz_haystack.files.json_values import load_json, objects_in, parse_json, text_in
from bloomz_haystack.files.squad import SquadParagraph, SquadQuestion, read_squad

_LANGS = ("fr", "en")
_SLICE_TEXTS = [f"{side}_{lang}" for side in ("question", "context") for lang in _LANGS]


class SliceRow(NamedTuple):
    """One question of the slice: both languages of the question and of its paragraph."""

    id: str
    theme: str
    questions: dict[str, str]
    contexts: dict[str, str]


def read_paragraphs(path: Path) -> list[SquadParagraph]:
    """Return the paragraphs of a file in SQuAD format, each with text to rank and to ask.

    :param path: as for `read_squad`.
    :returns: the paragraphs in the file's order.
    :raises ValueError: as `read_squad`; or if a paragraph or a question is empty: names the place.
    """
    paragraphs = read_squad(path)
    for number, paragraph in enumerate(paragraphs, 1):
        empty = [question.id for question in paragraph.questions if not question.text.strip()]
        if empty or not paragraph.context.strip():
            what = f"question {empty[0]}" if empty else "the context"
            raise ValueError(f"{path}, paragraph {number} of the file: {what} has no text: leave it out")
    return paragraphs


def read_piaf(path: Path) -> list[SquadParagraph]:
    """Return native French questions, from the flat form or from PIAF's own, which is SQuAD format.

    :param path: JSON, `{passages: [{id, content}], queries: [{id, text, passage}]}` or SQuAD format.
    :returns: the paragraphs in the file's order; the flat form has no themes and no answers.
    :raises ValueError: if the file is neither, or a query names a passage that is not there: names the place.
    """
    values = load_json(path)
    if isinstance(values, dict) and "data" in values:
        return read_paragraphs(path)
    contexts = {
        text_in(passage, "id", path, place): text_in(passage, "content", path, place)
        for place, passage in objects_in(values, "passages", path, "passage")
    }
    asked: dict[str, list[SquadQuestion]] = {name: [] for name in contexts}
    for place, query in objects_in(values, "queries", path, "query"):
        name = text_in(query, "passage", path, place)
        if name not in asked:
            raise ValueError(f"{path}, {place}: passage {name!r} is not in the file")
        question = SquadQuestion(text_in(query, "id", path, place), text_in(query, "text", path, place), (), False)
        asked[name].append(question)
    return [SquadParagraph("", context, tuple(asked[name])) for name, context in contexts.items()]


def read_slice(path: Path) -> list[SliceRow]:
    """Return the questions of SQuAD that people translated into French.

    :param path: JSON lines, `{id, title, question_fr, context_fr, question_en, context_en}`.
    :returns: the rows in the file's order; texts by language.
    :raises ValueError: if a line is not JSON or lacks a text: names the line.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        row, place = parse_json(line, f"{path}, line {number}"), f"line {number}"
        texts = {key: text_in(row, key, path, place) for key in ("id", "title", *_SLICE_TEXTS)}
        questions, contexts = ({lang: texts[f"{side}_{lang}"] for lang in _LANGS} for side in ("question", "context"))
        rows.append(SliceRow(texts["id"], texts["title"], questions, contexts))
    return rows
