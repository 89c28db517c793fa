"""Files of rows -> rows of token ids, each side in the languages it has.

Row schemas, one JSON object a line, plain or gzip: that of cmarkea/mmarco-contrastive,
``{"id", "query": {"english", "french"} | null, "positive": {"english", "french"}, "negatives": [{"english", "french",
"score"}]}`` (a side that is absent is null, ``negatives`` may be), and parallel sentences ``{"english", "french"}``.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from haystack_integrations.common.bloomz.tokens import TokenIds

from .config import Source

LANGUAGES = ("english", "french")
VALIDATION_EVERY = 50  # one passage in 50 is kept for validation
BLOCK = 4096  # texts tokenised together


Sides = dict[str, Any]  # language -> text, or token ids once tokenised


class Negative(NamedTuple):
    """A passage that does not answer, in 1..2 languages."""

    sides: Sides
    score: float  # probability of relevance that a ranker gave it; 0 where none did
    group: int  # as of Row


class Row(NamedTuple):
    """A question, in 0..2 languages, and the passage that answers it, in 1..2 languages."""

    queries: Sides
    positives: Sides
    group: int  # rows of the same group have the same passage
    parallel: bool = False  # a sentence and its translation: each side asks for the other
    negatives: Sequence[Negative] = ()  # hardest first, or in any order with scores


@dataclass
class Rows:
    """The rows of one source."""

    source: Source
    train: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # "FILE:LINE: what is wrong"


def read_rows(source: Source, groups: dict[str, int]) -> Rows:
    """Read a source; a bad row is counted, named and skipped.

    :param source: file and weight.
    :param groups: passage text -> group number, shared by all sources and added to here.
    :returns: rows with texts, split by passage into train and validation.
    :raises ValueError: if more than 1 % of the rows are bad.
    """
    rows = Rows(source)
    total = 0
    for number, line in _lines(source.path):
        total += 1
        try:
            row = _parse(json.loads(line), groups)
        except (ValueError, TypeError, AttributeError) as error:
            rows.bad.append(f"{source.path}:{number}: {error}")
            continue
        held_out = row.group % VALIDATION_EVERY == 0 and bool(row.queries)
        (rows.validation if held_out else rows.train).append(row)
    if len(rows.bad) > total // 100:
        raise ValueError(f"{source.path}: {len(rows.bad)} bad rows of {total}, at most 1 % may be ({rows.bad[0]})")
    if not rows.train:
        raise ValueError(f"{source.path}: no row to train on in {total} lines")
    return rows


def texts_of(sources: Sequence[Rows], budget: int) -> Iterator[str]:
    """Give texts of every source in turn, to learn a vocabulary that no single source rules.

    :param sources: rows with texts.
    :param budget: characters taken of each source.
    :yields: texts.
    """
    for rows in sources:
        left = budget
        for row in rows.train[:: max(1, len(rows.train) // 20_000)] if left > 0 else []:
            for text in (*row.queries.values(), *row.positives.values()):
                left -= len(text)
                yield text
            if left < 0:
                break


def tokenize_rows(rows: Rows, tokenizer: Tokenizer, max_length: int) -> Rows:
    """Replace the texts of all rows by token ids; a text without a token is dropped with its side.

    :param rows: with texts.
    :param tokenizer: of the model that is trained.
    :param max_length: tokens kept of a text.
    :returns: the same rows, their texts now int64 arrays.
    """
    every = [side for row in (*rows.train, *rows.validation) for side in _all_sides(row)]
    texts = list(dict.fromkeys(text for side in every for text in side.values()))
    ids: dict[str, TokenIds] = {}
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        for text, encoding in zip(block, tokenizer.encode_batch(block, add_special_tokens=False), strict=True):
            ids[text] = np.asarray(encoding.ids[:max_length], dtype=np.int64)

    def tokens(side: Sides) -> Sides:
        return {language: ids[text] for language, text in side.items() if len(ids[text])}

    def convert(row: Row) -> Row:
        negatives = [negative._replace(sides=tokens(negative.sides)) for negative in row.negatives]
        return row._replace(
            queries=tokens(row.queries),
            positives=tokens(row.positives),
            negatives=[negative for negative in negatives if negative.sides],
        )

    train, validation = ([row for row in map(convert, part) if row.positives] for part in (rows.train, rows.validation))
    return Rows(rows.source, train, validation, rows.bad)


def _all_sides(row: Row) -> Iterator[Sides]:
    yield row.queries
    yield row.positives
    yield from (negative.sides for negative in row.negatives)


def _lines(path: str) -> Iterator[tuple[int, str]]:
    open_ = gzip.open if path.endswith(".gz") else open
    with open_(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _parse(values: dict[str, Any], groups: dict[str, int]) -> Row:
    if "positive" in values:
        queries, positives = _sides(values.get("query") or {}), _sides(values["positive"])
    else:
        queries = positives = {language: values[language] for language in LANGUAGES}
    negatives = [
        Negative(sides, float(negative.get("score") or 0.0), _group(sides, groups))
        for negative in values.get("negatives") or ()
        if (sides := _sides(negative))
    ]
    if not positives or not all(_is_text(text) for side in (queries, positives) for text in side.values()):
        raise ValueError("expected a non-empty text in English or French for 'positive' (and 'query' if given)")
    return Row(queries, positives, _group(positives, groups), "positive" not in values, negatives)


def _sides(side: dict[str, str | None]) -> Sides:
    return {language: text for language in LANGUAGES if (text := side.get(language)) is not None}


def _is_text(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _group(sides: Sides, groups: dict[str, int]) -> int:
    return groups.setdefault(next(iter(sides.values())), len(groups))
