"""Standard input -> questions, one a line, as they come; what is not text comes out as the reason why."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Question(NamedTuple):
    """A line that is a question, or why it is none."""

    line: int
    text: str = ""
    problem: str | None = None


def read_questions(lines: Iterable[bytes]) -> Iterator[Question]:
    """Read lines of UTF-8, or of Windows-1252 where they are not UTF-8; blank ones are left out.

    :param lines: of a file opened for bytes.
    :yields: questions, numbered by their line from 1.

    >>> [question.text for question in read_questions([b"\\xef\\xbb\\xbfO\\xc3\\xb9 ?\\r\\n", b"\\n", b"caf\\xe9\\n"])]
    ['Où ?', 'café']
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            text = _decoded(line).strip()
        except ValueError as error:
            yield Question(number, problem=str(error))
            continue
        if text:
            yield Question(number, text)


def check_question(question: str) -> None:
    """Refuse a question without a word.

    :param question: of the user.
    :raises ValueError: if it is blank.
    """
    if not question.strip():
        raise ValueError('the question is empty: ask something, for instance bloomz ask "Où est la tour Eiffel ?"')


def _decoded(line: bytes) -> str:
    if b"\0" in line:
        raise ValueError("not text (it holds a byte 0): give UTF-8, one question a line")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            raise ValueError("not text: it is neither UTF-8 nor Windows-1252") from None
