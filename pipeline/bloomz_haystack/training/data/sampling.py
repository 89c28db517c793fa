"""Rows of token ids -> the batch of a step: which rows, in which languages, against which hard negatives.

A batch depends on the seed and the step alone, so that a run can be resumed. Knows nothing of files or of models.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bloomz_haystack.training.config import DataConfig
from bloomz_haystack.training.data.rows import Negative, Sides, TokenRow
from bloomz_haystack.training.data.sources import TokenRows
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds


class Contrast(NamedTuple):
    """B questions and P >= B passages: their positives, in order, then the hard negatives of all.

    `groups` (P,) int64: passages of the same group hold the same text.
    """

    questions: list[TokenIds]
    passages: list[TokenIds]
    groups: npt.NDArray[np.int64]

    @property
    def texts(self) -> list[TokenIds]:
        """Texts that the model reads: questions, then passages."""
        return [*self.questions, *self.passages]


class LabelledPairs(NamedTuple):
    """Pairs of passage and question, joined; `labels` (B,) int64 is 1 where the passage answers.

    `questions` (B,) int64 numbers the questions from 0; the pairs of a question stand together, its positive first.
    """

    texts: list[TokenIds]
    labels: npt.NDArray[np.int64]
    questions: npt.NDArray[np.int64]


class DrawnRow(NamedTuple):
    """A question, its passage and its hard negatives, each in one drawn language."""

    question: TokenIds
    passage: TokenIds
    negatives: list[TokenIds]
    groups: list[int]  # of the passage, then of the negatives


class LanguageDraw:
    """Draws the language of each side: uniformly over the pairs that a row has, or by given weights."""

    def __init__(self, weights: Mapping[Any, float]) -> None:
        """Store the weights.

        :param weights: by "question-passage", e.g. "french-english"; empty means equal weights.
        """
        self._weights = weights

    def pair(
        self, asked: Sides[TokenIds], answering: Sides[TokenIds], rng: np.random.Generator, *, translated: bool = False
    ) -> tuple[str, str]:
        """Return the languages drawn for question and passage.

        :param asked: sides of the question.
        :param answering: sides of the passage.
        :param rng: of the step.
        :param translated: two different languages, where there are two.
        :returns: one language for each.
        """
        pairs = [(one, other) for one in asked for other in answering]
        return self._choose([pair for pair in pairs if pair[0] != pair[1]] or pairs if translated else pairs, rng)

    def passage(self, asked: str, answering: Sides[TokenIds], rng: np.random.Generator) -> str:
        """Return the language of a negative, drawn like that of the positive: it must not tell them apart.

        :param asked: language of the question.
        :param answering: sides of the passage.
        :param rng: of the step.
        :returns: its language.
        """
        return self._choose([(asked, language) for language in answering], rng)[1]

    def _choose(self, pairs: Sequence[tuple[str, str]], rng: np.random.Generator) -> tuple[str, str]:
        weights = [self._weights.get(f"{asked}-{answering}", 0.0) for asked, answering in pairs]
        if not any(weights):  # none given, or a row that has none of the wanted pairs
            return pairs[int(rng.integers(len(pairs)))]
        left = rng.random() * sum(weights)
        for pair, weight in zip(pairs, weights, strict=True):
            left -= weight
            if left < 0:
                return pair
        return pairs[int(np.argmax(weights))]  # rounding


class RowStream:
    """An endless stream; each step takes the rows after those of the steps before."""

    def __init__(self, open_at: Callable[[int], Iterator[TokenRow]]) -> None:
        """Store the parts; nothing is opened yet.

        :param open_at: opens the stream after a number of rows.
        """
        self._open_at = open_at
        self._rows: Iterator[TokenRow] | None = None
        self._step = 0  # that takes the next rows

    def go_to(self, step: int, taken: Callable[[int], int]) -> None:
        """Move to the first row of a step; reads from the beginning unless it is the next step.

        :param step: from 0.
        :param taken: returns how many rows an earlier step took.
        """
        if self._rows is None or step != self._step:
            self._rows = self._open_at(sum(map(taken, range(step))))
        self._step = step + 1

    def next_row(self) -> TokenRow:
        """Return the next row.

        :returns: with token ids.
        """
        assert self._rows is not None, "go_to comes first"
        return next(self._rows)


class RowSampler:
    """Draws rows, and from a row the texts of each side."""

    def __init__(
        self, sources: Sequence[TokenRows], word_starts: npt.NDArray[np.bool_], data: DataConfig, seed: int
    ) -> None:
        """Store the tokenized sources.

        :param sources: rows with token ids.
        :param word_starts: (V,) whether a token starts a word; spans begin there.
        :param data: language weights, share of inverse cloze.
        :param seed: random seed.
        """
        self._sources = [rows.train for rows in sources]
        self._streams = {place: RowStream(rows.stream) for place, rows in enumerate(sources) if rows.stream}
        self._seed = seed
        weights = np.asarray([rows.source.weight for rows in sources], dtype=np.float64)
        self._weights = weights / weights.sum()
        self._word_starts = word_starts
        self._data = data
        self._languages = LanguageDraw(data.language_pairs)

    def rng(self, step: int) -> np.random.Generator:
        """Return the random generator of a step.

        :param step: from 0.
        :returns: the same one for the same step.
        """
        return np.random.default_rng([self._seed, step])

    def rows(self, count: int, step: int, rng: np.random.Generator) -> Iterator[TokenRow]:
        """Yield drawn rows: a source by weight, then one of its rows uniformly, or the next one of its stream.

        :param count: how many; always the same in a run with streams.
        :param step: from 0.
        :param rng: of the step, not used yet.
        :yields: rows.
        """
        for place, stream in self._streams.items():
            stream.go_to(step, partial(self._taken, place, count))
        for pick in self._picks(count, rng):
            if pick in self._streams:
                yield self._streams[pick].next_row()
            else:
                yield self._sources[pick][rng.integers(len(self._sources[pick]))]

    def _taken(self, place: int, count: int, step: int) -> int:
        """Number of rows that a source gives to a batch."""
        return int((self._picks(count, self.rng(step)) == place).sum())

    def _picks(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        size = 1 if self._data.single_source else count
        return np.resize(rng.choice(len(self._sources), size=size, p=self._weights), count)

    def languages(self, row: TokenRow, rng: np.random.Generator) -> tuple[str, str]:
        """Return the languages of question and passage, drawn once for rows that share them.

        :param row: one of them.
        :param rng: of the step.
        :returns: one language for each.
        """
        return self._languages.pair(row.queries or row.positives, row.positives, rng, translated=row.parallel)

    def draw(
        self,
        row: TokenRow,
        rng: np.random.Generator,
        negatives: Sequence[Negative[TokenIds]] = (),
        *,
        wanted: tuple[str, str] | None = None,
    ) -> DrawnRow:
        """Return the texts of a row, each in a drawn language.

        :param row: with token ids.
        :param rng: of the step.
        :param negatives: those of the row to use.
        :param wanted: languages of question and passage, used where the row has them.
        :returns: token ids.
        """
        # Inverse cloze, across languages too: the span comes from either side of the translation.
        cloze = not row.queries or (not row.parallel and rng.random() < self._data.inverse_cloze)
        sides = row.positives if cloze else row.queries
        asked, answering = self._languages.pair(sides, row.positives, rng, translated=row.parallel)
        if wanted:
            asked = wanted[0] if wanted[0] in sides else asked
            answering = wanted[1] if wanted[1] in row.positives else answering
        return DrawnRow(
            self._span(sides[asked], rng) if cloze else sides[asked],
            row.positives[answering],
            [negative.sides[self._languages.passage(asked, negative.sides, rng)] for negative in negatives],
            [row.group, *(negative.group for negative in negatives)],
        )

    def thinned(self, texts: list[TokenIds], rng: np.random.Generator) -> list[TokenIds]:
        """Return texts without the share of their tokens that `token_dropout` says; one that would lose all keeps all.

        :param texts: token ids.
        :param rng: of the step, not used if the share is 0.
        :returns: as many texts.
        """
        share = self._data.token_dropout
        if not share:
            return texts
        kept = [ids[rng.random(len(ids)) >= share] for ids in texts]
        return [some if len(some) else ids for some, ids in zip(kept, texts, strict=True)]

    def _span(self, ids: TokenIds, rng: np.random.Generator) -> TokenIds:
        starts = np.flatnonzero(self._word_starts[ids])
        start = int(starts[rng.integers(len(starts))]) if len(starts) else 0
        return ids[start : start + int(rng.integers(4, 24))]


def contrast_batch(sampler: RowSampler, size: int, step: int) -> Contrast:
    """Return the batch of a retriever.

    :param sampler: draws the rows.
    :param size: B, questions.
    :param step: from 0.
    :returns: questions, positives, hard negatives.
    """
    rng = sampler.rng(step)
    drawn = [sampler.draw(row, rng, row.negatives) for row in sampler.rows(size, step, rng)]
    passages = [item.passage for item in drawn] + [text for item in drawn for text in item.negatives]
    groups = [item.groups[0] for item in drawn] + [group for item in drawn for group in item.groups[1:]]
    questions, passages = sampler.thinned([item.question for item in drawn], rng), sampler.thinned(passages, rng)
    return Contrast(questions, passages, np.asarray(groups, dtype=np.int64))


def labelled_batch(
    sampler: RowSampler, rows: Iterable[TokenRow], ratio: int, template: SpecialTokens, rng: np.random.Generator
) -> LabelledPairs:
    """Return the batch of a ranker: questions with their passages and with hard negatives drawn from their rows.

    :param sampler: draws the texts.
    :param rows: with negatives.
    :param ratio: negatives per positive; fewer where a row has fewer.
    :param template: special tokens before, between and after passage and question.
    :param rng: of the step.
    :returns: the pairs.
    """
    before, between, after = template
    texts: list[TokenIds] = []
    labels, questions = [], []
    for number, row in enumerate(rows):
        pool = row.negatives
        chosen = rng.choice(len(pool), size=min(ratio, len(pool)), replace=False)
        drawn = sampler.draw(row, rng, [pool[i] for i in chosen])
        for label, passage in zip([1, *[0] * len(chosen)], [drawn.passage, *drawn.negatives], strict=True):
            texts.append(np.concatenate([before, passage, between, drawn.question, after]).astype(np.int64))
            labels.append(label)
            questions.append(number)
    return LabelledPairs(texts, np.asarray(labels, dtype=np.int64), np.asarray(questions, dtype=np.int64))
