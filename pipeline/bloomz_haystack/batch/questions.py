"""Lines of a file or of stdin -> questions; a line that holds none is named with its number, and the rest is read."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class QuestionLine(NamedTuple):
    """A line that holds a question, or why it does not."""

    number: int
    text: str = ""
    problem: str | None = None


class BatchQuestion(NamedTuple):
    """A question of a batch, its `id` (else the number of its line) and a Haystack filter on the passages."""

    id: str
    text: str
    filters: dict[str, Any] | None = None


def read_questions(lines: Iterable[bytes]) -> Iterator[QuestionLine]:
    """Read lines of UTF-8, or of Windows-1252 where they are not UTF-8; blank lines are skipped.

    :param lines: of a binary file.
    :yields: questions, numbered by their line from 1.

    >>> [line.text for line in read_questions([b"\\xef\\xbb\\xbfO\\xc3\\xb9 ?\\r\\n", b"\\n", b"caf\\xe9\\n"])]
    ['Où ?', 'café']
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            question = _decoded(line).strip()
        except ValueError as error:
            yield QuestionLine(number, problem=str(error))
            continue
        if question:
            yield QuestionLine(number, question)


def read_batch(lines: Iterable[bytes]) -> tuple[list[BatchQuestion], list[QuestionLine]]:
    r"""Read one question per line: a JSON string, an object with `question`, `id` and `filters`, or plain text.

    :param lines: of a binary file.
    :returns: the questions, in order, and the lines that hold none.

    >>> questions, _ = read_batch([b'{"question": "Where?", "id": "q7"}\n', '"Où ?"\n'.encode(), b"Who?\n", b"[1]\n"])
    >>> [(question.id, question.text) for question in questions]
    [('q7', 'Where?'), ('2', 'Où ?'), ('3', 'Who?')]
    """
    questions: list[BatchQuestion] = []
    problems: list[QuestionLine] = []
    lines_of: dict[str, int] = {}
    for line in read_questions(lines):
        try:
            if line.problem:
                raise ValueError(line.problem)
            question = _question_of(line)
            if first := lines_of.get(question.id):
                raise ValueError(f"the id {question.id!r} is that of line {first}: give each question its own")
        except ValueError as error:
            problems.append(QuestionLine(line.number, problem=str(error)))
            continue
        lines_of[question.id] = line.number
        questions.append(question)
    return questions, problems


def _question_of(line: QuestionLine) -> BatchQuestion:
    value = _parsed(line.text)
    fields = value if isinstance(value, dict) else {"question": value}
    if unknown := sorted(set(fields) - {"question", "id", "filters"}):
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))}: a question has question, id and filters")
    question, given, filters = fields.get("question"), fields.get("id"), fields.get("filters")
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f'expected a text under "question", but got {question!r:.40}')
    if isinstance(given, bool) or not isinstance(given, str | int | None):
        raise ValueError(f'expected a text or a whole number under "id", but got {given!r:.40}')
    if not isinstance(filters, dict | None):
        raise ValueError(f'expected a Haystack filter, an object, under "filters", but got {filters!r:.40}')
    return BatchQuestion(str(line.number if given in (None, "") else given), question, filters or None)


def _parsed(text: str) -> object:
    """Return the value of JSON; text that begins as no JSON object, list or string is a question itself."""
    if text[0] not in '{["':
        return text
    try:
        value: object = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, although it begins with {text[0]}: {error.msg} at column {error.colno}") from None
    except UnicodeEncodeError:
        raise ValueError("half a character (a lone surrogate) in the text") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def _decoded(line: bytes) -> str:
    if b"\0" in line:
        raise ValueError("not text (it contains a NUL byte): give UTF-8, one question per line")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            raise ValueError("not text: neither UTF-8 nor Windows-1252") from None
