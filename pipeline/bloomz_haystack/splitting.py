"""A document -> passages of about 150 words, each with an id that is a hash of all that is stored of it.

The same file read again gives the same ids, so an id that is in the store is a passage that need not be embedded.
"""

import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path

from haystack import Document
from haystack.components.preprocessors import DocumentSplitter

from bloomz_haystack.pipelines import FILE_FIELD

LONGEST_WORD = 100  # characters; text without spaces is cut there, else it would be one endless passage

_SPACES = re.compile(r"\s+")
_ENDLESS = re.compile(rf"(\S{{{LONGEST_WORD}}})(?=\S)")


class Splitter:
    """Cut the documents of one file after the other into passages."""

    def __init__(self, passage_words: int = 150) -> None:
        """Choose the lengths.

        :param passage_words: words in a passage; neighbours share an eighth of it, so that a sentence cut by the end
            of one is whole in the next; an end shorter than a quarter joins the passage before it.
        :raises ValueError: if it is not positive.
        """
        if passage_words <= 0:
            raise ValueError(f"passage_words must be > 0, but got {passage_words}")
        overlap = passage_words // 8
        self._splitter = DocumentSplitter(
            split_by="word",
            split_length=passage_words,
            split_overlap=overlap,
            split_threshold=overlap + passage_words // 4,
        )

    def split(self, document: Document, file: Path, seen: Counter[str]) -> list[Document]:
        """Cut one document.

        :param document: content and metadata.
        :param file: where it comes from.
        :param seen: the passages of this file so far; counts those that are alike, so that their ids differ.
        :returns: its passages; none for a document without text.
        """
        text = document.content or ""
        content = _spaced(text)
        if not content:
            return []
        first_page = text[: len(text) - len(text.lstrip())].count("\f")  # empty pages before the first word
        passages = []
        for part in self._splitter.run([Document(content=content)])["documents"]:
            if words := _unspaced(part.content or ""):
                meta = {**document.meta, FILE_FIELD: stored_name(file), "split_id": part.meta["split_id"]}
                if "\f" in text:
                    meta["page_number"] = first_page + part.meta["page_number"]
                passages.append(_passage(words, meta, seen))
        return passages


def stored_name(file: Path) -> str:
    """Write a file's path as the store can hold it: Linux allows names that are not UTF-8.

    :param file: its path.
    :returns: the same, unless it held such bytes.
    """
    return os.fsencode(file).decode("utf-8", "replace")


def _passage(text: str, meta: dict[str, object], seen: Counter[str]) -> Document:
    said = json.dumps([text, meta], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    seen[digest] += 1
    if seen[digest] > 1:  # the very same line twice in one .jsonl file
        digest = hashlib.sha256(f"{digest} {seen[digest]}".encode()).hexdigest()
    return Document(id=digest, content=text, meta=meta)


def _spaced(text: str) -> str:
    """Put exactly one space between two words: Haystack's splitter counts spaces, and takes a line end for a letter.

    >>> _spaced("un  deux\\ntrois")
    'un deux\\n trois'
    """
    return _ENDLESS.sub(r"\1 ", _SPACES.sub(_one_space, text.strip()))


def _one_space(run: re.Match[str]) -> str:
    return "\f" * run.group().count("\f") + "\n" * min(run.group().count("\n"), 2) + " "


def _unspaced(text: str) -> str:
    return text.replace("\f", "\n").replace("\n ", "\n").strip()
