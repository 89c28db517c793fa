"""A document -> passages of about 150 words, each with an id that is a hash of all that is stored of it.

The same file read again gives the same ids, so an id that is in the store is a passage that need not be embedded.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document

from bloomz_haystack.indexing.files import name_in_store
from bloomz_haystack.settings import FILE_FIELD, FILE_KEY

LONGEST_WORD = 100  # bytes; what is longer (base64, Chinese) counts as several words, and may be cut between them
PIECE_OF_WORD = 12  # bytes

SPECIAL_ROOM = 8  # tokens that a tokenizer may add to a text, at most

_WORD = re.compile(r"\S+")
_SPACES = re.compile(r"\s+")


def surely_fits(text: str, most_tokens: int) -> bool:
    """Return whether a text is so short that no tokenizer need be asked: a token is a byte at least.

    :param text: of a passage.
    :param most_tokens: that the model reads of a text.
    :returns: False if it may be too long.
    """
    return len(text.encode()) + SPECIAL_ROOM <= most_tokens


class Span(NamedTuple):
    """A word, or a piece of an endless one."""

    start: int
    end: int


class Splitter:
    """Cut the documents of one file after the other into passages."""

    def __init__(self, passage_words: int, fits: Callable[[str], bool] | None = None) -> None:
        """Choose the lengths.

        :param passage_words: words in a passage; neighbours share an eighth of it, so that a sentence cut by the end
            of one is whole in the next; an end shorter than a quarter joins the passage before it.
        :param fits: tells whether the model reads a passage to its end; one that it does not is halved. None: all do.
        :raises ValueError: if it is not positive.
        """
        if passage_words <= 0:
            raise ValueError(f"passage_words must be > 0, but got {passage_words}")
        self._length, self._step = passage_words, passage_words - passage_words // 8
        self._shortest_end = passage_words // 4
        self._fits = fits

    def split(self, document: Document, file: Path, seen: Counter[str]) -> list[Document]:
        """Cut one document.

        :param document: content and metadata. What the metadata has is kept: a name that it uses already
            (`file_path`, `split_id`, `page_number`) is written as `indexed_file_path`, ... beside it.
        :param file: where it comes from.
        :param seen: the passages of this file so far; counts those that are alike, so that their ids differ.
        :returns: its passages; none for a document without text.
        """
        text = document.content or ""
        page = counted = 0 if "\f" not in text else 1
        passages: list[Document] = []
        for words in self._windows(text):
            start, end = words[0].start, words[-1].end
            own: dict[str, Any] = {FILE_FIELD: name_in_store(file), "split_id": len(passages)}
            if page:
                page += text.count("\f", counted - 1, start)
                counted = start + 1
                own["page_number"] = page
            meta = document.meta | {_free_name(name, document.meta): value for name, value in own.items()}
            said = _SPACES.sub(_one_space, text[start:end])
            passages.append(Document(id=_passage_id(said, document.meta, own, seen), content=said, meta=meta))
        return passages

    def _windows(self, text: str) -> Iterator[list[Span]]:
        """Slide a window over the words; no more of them are kept than it needs."""
        window: list[Span] = []
        for span in _spans(text):
            window.append(span)
            if len(window) >= self._length + self._shortest_end + 1:
                yield from self._fitting(text, window[: self._length])
                del window[: self._step]
        if window:
            yield from self._fitting(text, window)

    def _fitting(self, text: str, spans: list[Span]) -> Iterator[list[Span]]:
        if self._fits is None or len(spans) == 1 or self._fits(text[spans[0].start : spans[-1].end]):
            yield spans
        else:
            half = len(spans) // 2
            yield from self._fitting(text, spans[:half])
            yield from self._fitting(text, spans[half:])


def _spans(text: str) -> Iterator[Span]:
    for word in _WORD.finditer(text):
        start, end = word.span()
        size = len(word.group().encode()) if end - start > LONGEST_WORD // 4 else 0
        if size <= LONGEST_WORD:
            yield Span(start, end)
            continue
        step = max(PIECE_OF_WORD * (end - start) // size, 1)
        for place in range(start, end, step):
            yield Span(place, min(place + step, end))


def _free_name(name: str, taken: dict[str, Any]) -> str:
    while name in taken:
        name = f"indexed_{name}"
    return name


def _passage_id(text: str, given: dict[str, Any], own: dict[str, Any], seen: Counter[str]) -> str:
    """Hash what is said; a file that has a key is known by it, so that another `file_path` changes no id."""
    rest = {name: value for name, value in own.items() if name != FILE_FIELD or FILE_KEY not in given}
    digest = hashlib.sha256(json.dumps([text, given, rest], sort_keys=True).encode()).hexdigest()
    seen[digest] += 1
    if seen[digest] > 1:  # the very same line twice in one .jsonl file
        digest = hashlib.sha256(f"{digest} {seen[digest]}".encode()).hexdigest()
    return digest


def _one_space(run: re.Match[str]) -> str:
    return "\n" * min(run.group().count("\n") + run.group().count("\f"), 2) or " "
