"""Rows -> what is searched (distinct passages) and what is asked (questions, and which passages answer them).

Two passages are the same if a side of one equals a side of the other, white space and case aside. Knows no model.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bloomz_haystack.mining.likeness import text_number
from bloomz_haystack.training.data.rows import LANGUAGES, Row, Sides


class Question(NamedTuple):
    """A row that asks; ``language`` is the one that it is asked in, ``answers`` the texts known to answer it."""

    id: str | int | None
    queries: Sides
    positives: Sides
    language: str
    answers: frozenset[int]

    @property
    def text(self) -> str:
        """What the retriever and the ranker read."""
        return str(self.queries[self.language])


class SearchedText(NamedTuple):
    """One side of a passage, and the passage."""

    language: str
    text: str
    passage: Sides


class Corpus:
    """Distinct passages by the number of each of their texts."""

    def __init__(self) -> None:
        """Begin without passages."""
        self.texts: dict[int, SearchedText] = {}

    def add(self, passage: Sides) -> None:
        """Add a passage; one known in one language only gains the other.

        :param passage: texts by language.
        """
        for language, text in passage.items():
            known = self.texts.get(number := text_number(text))
            if known is None or len(known.passage) < len(passage):
                self.texts[number] = SearchedText(language, text, passage)

    def numbers_of(self, passage: Sides) -> set[int]:
        """Number the texts that say what a passage says, those of its translation included.

        :param passage: texts by language; it need not be in the corpus.
        :returns: their numbers.
        """
        numbers = {text_number(text) for text in passage.values()}
        known = [self.texts[number].passage for number in numbers if number in self.texts]
        return numbers | {text_number(text) for sides in known for text in sides.values()}


def passages_of(rows: Iterable[Row]) -> Corpus:
    """Gather the passages of rows: what answers, and the negatives that they have already.

    :param rows: with texts.
    :returns: the corpus, in the order of the rows.
    """
    corpus = Corpus()
    for row in rows:
        corpus.add(row.positives)
        for negative in row.negatives:
            corpus.add(negative.sides)
    return corpus


def questions_of(rows: Iterable[Row], corpus: Corpus, limit: int | None, seed: int) -> list[Question]:
    """Gather the rows that ask.

    :param rows: with texts; those without a question, and parallel sentences, are left out.
    :param corpus: tells which texts are sides of one passage.
    :param limit: most questions; None takes all.
    :param seed: of the sample, and of the language that each is asked in.
    :returns: the questions, in the order of the rows.
    """
    asking = [row for row in rows if row.queries and not row.parallel]
    answers: dict[int, set[int]] = defaultdict(set)
    for row in asking:
        for query in row.queries.values():
            answers[text_number(query)] |= corpus.numbers_of(row.positives)
    rng = np.random.default_rng(seed)
    if limit is not None and limit < len(asking):
        asking = [asking[place] for place in np.sort(rng.choice(len(asking), size=limit, replace=False))]
    languages = rng.integers(len(LANGUAGES), size=len(asking))
    return [
        Question(
            row.id,
            row.queries,
            row.positives,
            list(row.queries)[pick % len(row.queries)],
            frozenset[int]().union(*(answers[text_number(query)] for query in row.queries.values())),
        )
        for row, pick in zip(asking, languages.tolist(), strict=True)
    ]
