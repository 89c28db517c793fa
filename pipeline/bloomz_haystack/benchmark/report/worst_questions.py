"""A measured row -> its wrong questions, worst first, and the words that speak for one passage or the other."""

import html
import re
from typing import NamedTuple

import numpy as np

from bloomz_haystack.benchmark.report.table import ranks_of
from bloomz_haystack.benchmark.run.results_folder import KeptRun, Row
from haystack_integrations.document_stores.qdrant_edge.bm25 import question_words

WORST = 10
_WORD = re.compile(r"(\w+)")


class WorstQuestion(NamedTuple):
    """A question, the rank of the passage that answers it, and the passage that was ranked first instead."""

    question: str
    rank: float
    gold: str
    first: str
    theme: str
    gold_score: float  # of a ranker; NaN if none read this passage
    first_score: float  # of a ranker; NaN without one


class Errors(NamedTuple):
    """What one system got wrong."""

    row: Row
    total: int
    worst: list[WorstQuestion]


def worst_questions(run: KeptRun, row: Row, ties: str = "fair", count: int = WORST) -> list[WorstQuestion]:
    """Return the wrong questions whose right passage stands furthest down.

    :param run: gives the texts.
    :param row: measured.
    :param ties: `fair` or `optimistic`.
    :param count: at most.
    :returns: the worst first; a question is wrong if another passage stands first.
    """
    return errors_of(run, row, ties, count).worst


def errors_of(run: KeptRun, row: Row, ties: str = "fair", count: int = WORST) -> Errors:
    """Return what a system got wrong.

    :param run: gives the texts.
    :param row: measured.
    :param ties: `fair` or `optimistic`.
    :param count: how many of the worst, at most.
    :returns: the number of all wrong questions, and the worst.
    """
    ranks, gold = ranks_of(row, ties), np.array([question["gold"] for question in run.questions])
    wrong = (ranks > 1) & (row.first != gold)
    places = [place for place in np.argsort(-ranks, kind="stable") if wrong[place]]
    reranked = "ranker" in row.settings
    worst = [
        WorstQuestion(
            run.questions[place]["text"],
            float(ranks[place]),
            run.passages[gold[place]]["text"],
            run.passages[row.first[place]]["text"],
            run.questions[place]["theme"],
            float(row.gold_probability[place]),
            float(row.first_score[place]) if reranked else float("nan"),
        )
        for place in places[:count]
    ]
    return Errors(row, len(places), worst)


def best_row(run: KeptRun, ties: str) -> Row | None:
    """Return the row whose errors are shown.

    :param run: any.
    :param ties: `fair` or `optimistic`.
    :returns: the measured row of the highest MRR; None if there is none.
    """
    measured = [row for row in run.rows if row.measured]
    return max(measured, key=lambda row: float((1 / ranks_of(row, ties)).mean()), default=None)


def marked_html(text: str, question: str, other: str) -> str:
    """Return a passage with the question's words marked, stronger where the other passage lacks them.

    A word counts by its stem and not if it is a stop word, as in BM25 of the document store.

    :param text: the passage.
    :param question: whose words are marked.
    :param other: the passage it is compared with.
    :returns: escaped HTML with `mark` elements, of class `only` for words that the other passage lacks.

    >>> marked_html("Trains leave at <9>.", "When does the train leave?", "The train stops.")
    '<mark>Trains</mark> <mark class="only">leave</mark> at &lt;9&gt;.'
    """
    asked, there = _stems(question), _stems(other)
    parts = []
    for part in _WORD.split(text):
        shown, found = html.escape(part), _stems(part) & asked
        if found:
            shown = f"<mark>{shown}</mark>" if found <= there else f'<mark class="only">{shown}</mark>'
        parts.append(shown)
    return "".join(parts)


def _stems(text: str) -> set[int]:
    return {stem for word in _WORD.findall(text) for stem in question_words(word).indices}
