"""A file in SQuAD format (SQuAD 1.1 and 2.0, PIAF, FQuAD) -> its paragraphs, questions and answers with their offsets.

Knows nothing of languages, training rows or corpora.
"""

from pathlib import Path
from typing import Any, NamedTuple

from bloomz_haystack.files.json_values import load_json, objects_in, text_in


class SquadAnswer(NamedTuple):
    """An answer as the file has it: `text` should stand in the paragraph from character `start` on."""

    text: str
    start: int


class SquadQuestion(NamedTuple):
    """A question; `is_impossible` where SQuAD 2.0 says that the paragraph does not answer it."""

    id: str
    text: str  # may be empty: files in the wild have such questions
    answers: tuple[SquadAnswer, ...]
    is_impossible: bool


class SquadParagraph(NamedTuple):
    """A passage, the title of its article ("" if it has none) and the questions about it, in the file's order."""

    title: str
    context: str
    questions: tuple[SquadQuestion, ...]


def read_squad(path: Path) -> list[SquadParagraph]:
    """Return the paragraphs of a file in SQuAD format.

    :param path: `.json` or `.json.gz`: `{data: [{title, paragraphs: [{context, qas: [{id, question, is_impossible,
        answers: [{text, answer_start}]}]}]}]}`; title, is_impossible and answers may be absent.
    :returns: the paragraphs in the file's order, at least one.
    :raises ValueError: if the file cannot be read, or is in another format: names the place.
    """
    paragraphs = []
    for article_place, article in objects_in(load_json(path), "data", path, "article"):
        title = article.get("title")
        for place, paragraph in objects_in(article, "paragraphs", path, f"{article_place}, paragraph"):
            context = text_in(paragraph, "context", path, place, empty=True)
            questions = objects_in(paragraph, "qas", path, f"{place}, question")
            asked = tuple(_question(entry, path, where) for where, entry in questions)
            paragraphs.append(SquadParagraph("" if title is None else str(title), context, asked))
    if not paragraphs:
        raise ValueError(f"{path} holds no paragraph: expected SQuAD format with at least one")
    return paragraphs


def _question(entry: dict[str, Any], path: Path, place: str) -> SquadQuestion:
    number = entry.get("id")  # a number in some files
    name = str(number) if isinstance(number, int) else text_in(entry, "id", path, place)
    found = objects_in(entry, "answers", path, f"{place}, answer") if entry.get("answers") is not None else ()
    answers = tuple(_answer(answer, path, where) for where, answer in found)
    text = text_in(entry, "question", path, place, empty=True)
    return SquadQuestion(name, text, answers, bool(entry.get("is_impossible")))


def _answer(entry: dict[str, Any], path: Path, place: str) -> SquadAnswer:
    start = entry.get("answer_start")
    if isinstance(start, bool) or not isinstance(start, int):
        raise ValueError(f"{path}, {place}: expected a whole number named 'answer_start', but got {start!r}")
    return SquadAnswer(text_in(entry, "text", path, place, empty=True), start)
