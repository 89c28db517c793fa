"""Rows of texts -> rows of token ids, with their hardest negatives, in memory or as they stream by."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
from tokenizers import Tokenizer

from bloomz_haystack.training.config import DataConfig
from bloomz_haystack.training.data.rows import Negative, Sides, TextRow, TokenRow, TrainingRow, hardest
from bloomz_haystack.training.data.sources import TextRows, TokenRows
from haystack_integrations.common.bloomz.tokens import TokenIds

TEXTS_TOGETHER = 4096  # tokenised in one call
STREAMED_ROWS_TOGETHER = 64


def tokenize_rows(rows: TextRows, tokenizer: Tokenizer, data: DataConfig) -> TokenRows:
    """Return rows with token ids in place of texts; a text without a token is dropped with its side.

    :param rows: with texts.
    :param tokenizer: of the model to train.
    :param data: tokens kept of a text, and how many negatives of a row are used: only the hardest are kept.
    :returns: the same rows, of int64 arrays; equal texts share theirs.
    """
    train, validation = _convert(rows.train, rows.validation, tokenizer=tokenizer, data=data)
    stream = partial(_stream, rows, tokenizer, data) if rows.stream else None
    return TokenRows(rows.source, train, validation, rows.bad, stream)


def _stream(rows: TextRows, tokenizer: Tokenizer, data: DataConfig, skip: int) -> Iterator[TokenRow]:
    assert rows.stream is not None
    texts = rows.stream(skip)
    while block := list(islice(texts, STREAMED_ROWS_TOGETHER)):
        yield from _convert(block, tokenizer=tokenizer, data=data)[0]


def _convert(*parts: Sequence[TextRow], tokenizer: Tokenizer, data: DataConfig) -> list[list[TokenRow]]:
    kept = [
        [row._replace(negatives=hardest(row, data.negatives, data.false_negative)) for row in part] for part in parts
    ]
    every = [side for part in kept for row in part for side in _all_sides(row)]
    texts = list(dict.fromkeys(text for side in every for text in side.values()))
    ids: dict[str, TokenIds] = {}
    for start in range(0, len(texts), TEXTS_TOGETHER):
        block = texts[start : start + TEXTS_TOGETHER]
        for text, encoding in zip(block, tokenizer.encode_batch(block, add_special_tokens=False), strict=True):
            ids[text] = np.asarray(encoding.ids[: data.max_length], dtype=np.int64)

    def tokens(side: Sides[str]) -> Sides[TokenIds]:
        return {language: ids[text] for language, text in side.items() if len(ids[text])}

    def convert(row: TextRow) -> TokenRow:
        negatives = [Negative(tokens(negative.sides), negative.score, negative.group) for negative in row.negatives]
        return TrainingRow(
            tokens(row.queries),
            tokens(row.positives),
            row.group,
            row.parallel,
            [negative for negative in negatives if negative.sides],
            row.id,
        )

    return [[row for row in map(convert, part) if row.positives] for part in kept]


def _all_sides(row: TextRow) -> Iterator[Sides[str]]:
    yield row.queries
    yield row.positives
    yield from (negative.sides for negative in row.negatives)
