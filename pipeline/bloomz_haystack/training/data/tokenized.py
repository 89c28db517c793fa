"""Rows of texts -> rows of token ids, in memory or as they stream by."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from bloomz_haystack.training.config import DataConfig
from bloomz_haystack.training.data.rows import Row, Sides, hardest
from bloomz_haystack.training.data.sources import Rows
from haystack_integrations.common.bloomz.tokens import TokenIds

BLOCK = 4096  # texts tokenised together
STREAM_BLOCK = 64  # rows tokenised together


def tokenize_rows(rows: Rows, tokenizer: Tokenizer, data: DataConfig) -> Rows:
    """Replace the texts of all rows by token ids; a text without a token is dropped with its side.

    :param rows: with texts.
    :param tokenizer: of the model that is trained.
    :param data: tokens kept of a text, and negatives of a row that are used: others are dropped.
    :returns: the same rows, their texts now int64 arrays; equal texts share theirs.
    """
    train, validation = _convert(rows.train, rows.validation, tokenizer=tokenizer, data=data)
    stream = partial(_stream, rows, tokenizer, data) if rows.stream else None
    return Rows(rows.source, train, validation, rows.bad, stream)


def _stream(rows: Rows, tokenizer: Tokenizer, data: DataConfig, skip: int) -> Iterator[Row]:
    assert rows.stream is not None
    texts = rows.stream(skip)
    while block := list(islice(texts, STREAM_BLOCK)):
        yield from _convert(block, tokenizer=tokenizer, data=data)[0]


def _convert(*parts: Sequence[Row], tokenizer: Tokenizer, data: DataConfig) -> list[list[Row]]:
    kept = [
        [row._replace(negatives=hardest(row, data.negatives, data.false_negative)) for row in part] for part in parts
    ]
    every = [side for part in kept for row in part for side in _all_sides(row)]
    texts = list(dict.fromkeys(text for side in every for text in side.values()))
    ids: dict[str, TokenIds] = {}
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        for text, encoding in zip(block, tokenizer.encode_batch(block, add_special_tokens=False), strict=True):
            ids[text] = np.asarray(encoding.ids[: data.max_length], dtype=np.int64)

    def tokens(side: Sides) -> Sides:
        return {language: ids[text] for language, text in side.items() if len(ids[text])}

    def convert(row: Row) -> Row:
        negatives = [negative._replace(sides=tokens(negative.sides)) for negative in row.negatives]
        return row._replace(
            queries=tokens(row.queries),
            positives=tokens(row.positives),
            negatives=[negative for negative in negatives if negative.sides],
        )

    return [[row for row in map(convert, part) if row.positives] for part in kept]


def _all_sides(row: Row) -> Iterator[Sides]:
    yield row.queries
    yield row.positives
    yield from (negative.sides for negative in row.negatives)
