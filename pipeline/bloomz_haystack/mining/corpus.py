"""Rows -> the passages to search (distinct) and the questions to mine for, with the passages known to answer them.

Two passages are the same if a side of one equals a side of the other, white space and case aside. Knows no model.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bloomz_haystack.mining.text_number import text_number
from bloomz_haystack.training.data.rows import SIDE_LANGUAGES, Sides, TextRow


class MiningQuestion(NamedTuple):
    """A row with a question; `language` is the one it is asked in, `answers` numbers the texts known to answer it."""

    id: str | int | None
    queries: Sides[str]
    positives: Sides[str]
    language: str
    answers: frozenset[int]

    @property
    def text(self) -> str:
        """The question that the retriever and the ranker read."""
        return self.queries[self.language]


class PassageSide(NamedTuple):
    """One side of a passage, and the whole passage."""

    language: str
    text: str
    passage: Sides[str]


class PassagePool:
    """Distinct passages by the number of each of their texts."""

    def __init__(self) -> None:
        """Start empty."""
        self.texts: dict[int, PassageSide] = {}

    def add(self, passage: Sides[str]) -> None:
        """Add a passage; one known in one language gains the other.

        :param passage: texts by language.
        """
        for language, text in passage.items():
            known = self.texts.get(number := text_number(text))
            if known is None or len(known.passage) < len(passage):
                self.texts[number] = PassageSide(language, text, passage)

    def numbers_of(self, passage: Sides[str]) -> set[int]:
        """Return the numbers of the texts of a passage, its translation included.

        :param passage: texts by language; it need not be in the pool.
        :returns: as `text_number` gives them.
        """
        numbers = {text_number(text) for text in passage.values()}
        known = [self.texts[number].passage for number in numbers if number in self.texts]
        return numbers | {text_number(text) for sides in known for text in sides.values()}


def passages_of(rows: Iterable[TextRow]) -> PassagePool:
    """Return the passages of rows: those that answer, and the negatives they already have.

    :param rows: with texts.
    :returns: the passages, in row order.
    """
    pool = PassagePool()
    for row in rows:
        pool.add(row.positives)
        for negative in row.negatives:
            pool.add(negative.sides)
    return pool


def questions_of(rows: Iterable[TextRow], pool: PassagePool, limit: int | None, seed: int) -> list[MiningQuestion]:
    """Return the questions of rows.

    :param rows: with texts; those without a question, and parallel sentences, are left out.
    :param pool: says which texts are sides of one passage.
    :param limit: most questions, as an even sample; None takes all.
    :param seed: random seed (sample, query languages).
    :returns: the questions, in row order.
    """
    asking = [row for row in rows if row.queries and not row.parallel]
    answers: dict[int, set[int]] = defaultdict(set)
    for row in asking:
        for query in row.queries.values():
            answers[text_number(query)] |= pool.numbers_of(row.positives)
    rng = np.random.default_rng(seed)
    if limit is not None and limit < len(asking):
        asking = [asking[place] for place in np.sort(rng.choice(len(asking), size=limit, replace=False))]
    languages = rng.integers(len(SIDE_LANGUAGES), size=len(asking))
    return [
        MiningQuestion(
            row.id,
            row.queries,
            row.positives,
            list(row.queries)[pick % len(row.queries)],
            frozenset[int]().union(*(answers[text_number(query)] for query in row.queries.values())),
        )
        for row, pick in zip(asking, languages.tolist(), strict=True)
    ]
