"""The options of indexing and asking, with their defaults: one list for the command line, Python and HTTP.

Also the names of the models, once. Imports nothing heavy, since `--help` needs both.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TINY_RETRIEVER, TINY_RANKER = "tiny-fr-en-retriever", "tiny-fr-en-ranker"  # bundled
PUBLISHED_RETRIEVER, PUBLISHED_RANKER = "cmarkea/bloomz-560m-retriever-v2", "cmarkea/bloomz-560m-reranking"
PUBLISHED_DIMENSION = 1024  # numbers in a vector of bloomz-560m; bloomz-3b has 2560

FILE_FIELD = "file_path"  # metadata field of a passage's file, as Haystack's converters call it; relative
FILE_KEY = "indexed_file"  # the key by which the store's list of files knows where that file is
INDEXED_FIELDS = (FILE_FIELD, FILE_KEY)  # each indexing run asks, file by file, what the store holds of it

Threshold = float | Literal["auto"] | None


@dataclass(frozen=True)
class IndexSettings:
    """How files are indexed; a value out of range is a ValueError."""

    model: str | None = None  # retriever: Hub name, folder or bundled name; None: the store's own, else the bundled one
    passage_words: int = 150  # words in a passage
    batch_tokens: int = 2048  # tokens computed together; more on a GPU, e.g. 32768
    hybrid: bool = False  # also keep a BM25 index; a store that has one goes on keeping it
    precision: Literal["int8"] | None = None  # 8-bit linears, on a CPU; None: the device's own dtype
    prune: bool = False  # also remove the passages of files that are gone from the paths given
    prune_all: bool = False  # even where a folder is there but empty (an unmounted disk?), or nothing would be left
    wait: float = 30.0  # seconds to wait while another process holds the store

    def __post_init__(self) -> None:
        """Check the values.

        :raises ValueError: if one is out of range.
        """
        check_positive("passage_words", self.passage_words)
        check_positive("batch_tokens", self.batch_tokens)
        _check_wait(self.wait)


@dataclass(frozen=True)
class EmbedSettings:
    """How passages are embedded in bulk, into files; a value out of range is a ValueError."""

    model: str = TINY_RETRIEVER  # retriever: Hub name, folder or bundled name
    passage_words: int = IndexSettings.passage_words  # words in a passage
    batch_tokens: int = IndexSettings.batch_tokens  # tokens computed together; more on a GPU, e.g. 32768
    part_passages: int = 1024  # most passages of a file that is written: what a killed run loses
    precision: Literal["int8"] | None = None  # 8-bit linears, on a CPU; None: the device's own dtype
    device: str | None = None  # "cpu", "cuda", "cuda:1"; None: CUDA if there is one

    def __post_init__(self) -> None:
        """Check the values.

        :raises ValueError: if one is out of range.
        """
        check_positive("passage_words", self.passage_words)
        check_positive("batch_tokens", self.batch_tokens)
        check_positive("part_passages", self.part_passages)


@dataclass(frozen=True)
class AskSettings:
    """How questions are answered; a value out of range is a ValueError."""

    model: str | None = None  # retriever; None: the one that made the store
    ranker: str = TINY_RANKER  # Hub name, folder or bundled name
    candidates: int = 50  # passages handed to the ranker; at least top_k are
    top_k: int = 5  # most passages in an answer
    threshold: Threshold = None  # lowest score in an answer, 0 to 1; "auto": as the ranker's config.json recommends
    hybrid: bool | None = None  # search by words (BM25) too; None: if the store has a BM25 index
    prefix_cache: int | str | None = None  # memory for cached passage states, e.g. "2GB"; None: no cache
    prefix_cache_folder: str | Path | None = None  # keep them on disk, for later processes too
    precision: Literal["int8"] | None = None  # 8-bit linears in both models, on a CPU; None: the device's own dtype
    sentences: bool = True  # mark in each passage the sentence that answers
    score_prior: float | None = None  # weight of the retriever's similarity; None: as the ranker's config.json says
    wait: float = 30.0  # seconds to wait while another process holds the store

    def __post_init__(self) -> None:
        """Check the values.

        :raises ValueError: if one is out of range.
        """
        check_positive("candidates", self.candidates)
        check_positive("top_k", self.top_k)
        check_probability("threshold", self.threshold)
        _check_wait(self.wait)


def check_positive(name: str, value: int) -> None:
    """Refuse a number that is not positive.

    :param name: of the option.
    :param value: to check.
    :raises ValueError: if it is 0 or less.
    """
    if value <= 0:
        raise ValueError(f"{name} must be > 0, but got {value}")


def check_probability(name: str, value: Threshold) -> None:
    """Refuse a number that is not a probability.

    :param name: of the option.
    :param value: to check; None and "auto" pass.
    :raises ValueError: if it is something else.
    """
    if value is not None and value != "auto" and not 0 <= value <= 1:
        raise ValueError(f'{name} must be a probability from 0 to 1, or "auto", but got {value}')


def _check_wait(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"wait must be a number of seconds >= 0, but got {seconds}")


def check_question(question: str) -> None:
    """Refuse a blank question.

    :param question: of the user.
    :raises ValueError: if it is blank.
    """
    if not question.strip():
        raise ValueError('the question is empty: ask something, e.g. bloomz ask "Où est la tour Eiffel ?"')
