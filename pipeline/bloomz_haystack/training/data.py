"""Files of pairs -> batches of token ids, each side in a language drawn uniformly from those it has.

Row schemas, one JSON object a line, plain or gzip:
``{"id", "query": {"english", "french"} | null, "positive": {"english", "french"}}`` (a side that is absent is null),
the schema of cmarkea/mmarco-contrastive, and parallel sentences ``{"english", "french"}``.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

from .config import Source, TrainConfig

LANGUAGES = ("english", "french")
VALIDATION_EVERY = 50  # one passage in 50 is kept for validation
BLOCK = 4096  # texts tokenised together


class Row(NamedTuple):
    """A question, in 0..2 languages, and the passage that answers it, in 1..2 languages."""

    queries: list[Any]
    positives: list[Any]
    group: int  # rows of the same group have the same passage
    parallel: bool = False  # a sentence and its translation: each side asks for the other


@dataclass
class Rows:
    """The rows of one source."""

    name: str
    weight: float
    train: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # "FILE:LINE: what is wrong"


class Pairs(NamedTuple):
    """B questions and their passages, as token ids; ``groups`` (B,) int64."""

    questions: list[TokenIds]
    passages: list[TokenIds]
    groups: npt.NDArray[np.int64]


def read_rows(source: Source, groups: dict[str, int]) -> Rows:
    """Read a source; a bad row is counted, named and skipped.

    :param source: file and weight.
    :param groups: passage text -> group number, shared by all sources and added to here.
    :returns: rows with texts, split by passage into train and validation.
    :raises ValueError: if more than 1 % of the rows are bad.
    """
    rows = Rows(Path(source.path).name, source.weight)
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
            for text in (*row.queries, *row.positives):
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
    texts = list(dict.fromkeys(text for row in (*rows.train, *rows.validation) for side in row[:2] for text in side))
    ids: dict[str, TokenIds] = {}
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        for text, encoding in zip(block, tokenizer.encode_batch(block, add_special_tokens=False), strict=True):
            ids[text] = np.asarray(encoding.ids[:max_length], dtype=np.int64)

    def convert(row: Row) -> Row:
        queries, positives = ([ids[text] for text in side if len(ids[text])] for side in row[:2])
        return row._replace(queries=queries, positives=positives)

    train = [row for row in map(convert, rows.train) if row.positives]
    return Rows(
        rows.name, rows.weight, train, [row for row in map(convert, rows.validation) if row.positives], rows.bad
    )


class PairSampler:
    """Draw batches: a source by weight, a row uniformly, a language for each side uniformly."""

    def __init__(self, sources: Sequence[Rows], word_starts: npt.NDArray[np.bool_], config: TrainConfig) -> None:
        """Keep the tokenised sources.

        :param sources: rows with token ids.
        :param word_starts: (V,) whether a token starts a word; spans start there.
        :param config: batch size, share of inverse cloze, seed.
        """
        self._sources = [rows.train for rows in sources]
        weights = np.asarray([rows.weight for rows in sources], dtype=np.float64)
        self._weights = weights / weights.sum()
        self._word_starts = word_starts
        self._config = config

    def batch(self, step: int) -> Pairs:
        """Give the batch of a step; the same step always gives the same batch, so a run can be resumed.

        :param step: from 0.
        :returns: ``batch_size`` pairs.
        """
        rng = np.random.default_rng([self._config.seed, step])
        picks = rng.choice(len(self._sources), size=self._config.batch_size, p=self._weights)
        rows = [self._sources[pick][rng.integers(len(self._sources[pick]))] for pick in picks]
        pairs = [self.draw(row, rng) for row in rows]
        groups = np.asarray([row.group for row in rows], dtype=np.int64)
        return Pairs([question for question, _ in pairs], [passage for _, passage in pairs], groups)

    def draw(self, row: Row, rng: np.random.Generator) -> tuple[TokenIds, TokenIds]:
        """Give a question and a passage of a row, each in a language drawn uniformly.

        :param row: with token ids.
        :param rng: of the step.
        :returns: token ids of the question and of the passage.
        """
        if row.parallel and len(row.positives) == len(LANGUAGES):
            asked = int(rng.integers(len(LANGUAGES)))
            return row.positives[asked], row.positives[1 - asked]
        passage = row.positives[rng.integers(len(row.positives))]
        if row.queries and rng.random() >= self._config.inverse_cloze:
            return row.queries[rng.integers(len(row.queries))], passage
        # Inverse cloze, across languages too: the span comes from either side of the translation.
        return self._span(row.positives[rng.integers(len(row.positives))], rng), passage

    def _span(self, ids: TokenIds, rng: np.random.Generator) -> TokenIds:
        starts = np.flatnonzero(self._word_starts[ids])
        start = int(starts[rng.integers(len(starts))]) if len(starts) else 0
        return ids[start : start + int(rng.integers(4, 24))]


class GroupSampler:
    """Draw groups for the ranker: a positive pair and its negatives, joined by the tokenizer's template."""

    def __init__(
        self,
        sources: Sequence[Rows],
        mined: Sequence[Sequence[tuple[Row, list[Row]]]],
        word_starts: npt.NDArray[np.bool_],
        config: TrainConfig,
        template: SpecialTokens,
    ) -> None:
        """Keep the mined rows.

        :param sources: rows with token ids.
        :param mined: of each source, rows with their hard negatives.
        :param word_starts: (V,) whether a token starts a word.
        :param config: batch size, negatives, seed.
        :param template: what goes around context and question.
        """
        self._pairs = PairSampler(sources, word_starts, config)
        self._mined = [[(row, others) for row, others in rows if others] for rows in mined]
        weights = np.asarray([rows.weight for rows in sources], dtype=np.float64)
        self._weights = weights / weights.sum()
        self._config = config
        self._template = template

    def batch(self, step: int) -> list[list[TokenIds]]:
        """Give the groups of a step.

        :param step: from 0; the same step always gives the same groups.
        :returns: groups of token ids, the positive pair first; ``batch_size`` pairs in all, or a few fewer.
        """
        rng = np.random.default_rng([self._config.seed, step])
        size = 1 + self._config.negatives
        picks = rng.choice(len(self._mined), size=self._config.batch_size // size, p=self._weights)
        rows = [self._mined[pick][rng.integers(len(self._mined[pick]))] for pick in picks]
        return [self.group(row, others, self._config.negatives, rng) for row, others in rows]

    def group(self, row: Row, others: Sequence[Row], negatives: int, rng: np.random.Generator) -> list[TokenIds]:
        """Join a question with its passage and with negatives.

        :param row: the positive.
        :param others: rows to draw negatives from.
        :param negatives: how many; fewer where ``others`` is shorter.
        :param rng: of the step.
        :returns: pairs of token ids, the positive first.
        """
        question, passage = self._pairs.draw(row, rng)
        chosen = rng.choice(len(others), size=min(negatives, len(others)), replace=False)
        sides = [others[i].positives for i in chosen]
        contexts = [passage, *(side[rng.integers(len(side))] for side in sides)]
        before, between, after = self._template
        return [np.concatenate([before, context, between, question, after]).astype(np.int64) for context in contexts]


def validation_pairs(sources: Sequence[Rows], limit: int) -> Pairs:
    """Gather held-out pairs, one a passage, the first question in the first language against the last language.

    :param sources: rows with token ids.
    :param limit: pairs taken of each source.
    :returns: the pairs; where both languages exist, question and passage differ in language.
    """
    chosen: dict[int, Row] = {}
    for rows in sources:
        fresh = {row.group: row for row in rows.validation if row.queries}
        chosen.update(dict(list(fresh.items())[:limit]))
    rows_ = list(chosen.values())
    groups = np.asarray([row.group for row in rows_], dtype=np.int64)
    return Pairs([row.queries[0] for row in rows_], [row.positives[-1] for row in rows_], groups)


def _lines(path: str) -> Iterator[tuple[int, str]]:
    open_ = gzip.open if path.endswith(".gz") else open
    with open_(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _parse(values: dict[str, Any], groups: dict[str, int]) -> Row:
    if "positive" in values:
        queries, positives = _sides(values.get("query")), _sides(values["positive"])
    else:
        sentences = [values[language] for language in LANGUAGES]
        queries, positives = sentences, sentences
    if not positives or not all(isinstance(text, str) and text.strip() for text in (*queries, *positives)):
        raise ValueError("expected a non-empty text in English or French for 'positive' (and 'query' if given)")
    return Row(queries, positives, groups.setdefault(positives[0], len(groups)), parallel="positive" not in values)


def _sides(side: dict[str, str | None] | None) -> list[str]:
    return [text for language in LANGUAGES if side and (text := side.get(language)) is not None]
