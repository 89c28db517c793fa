"""Questions -> a file of answers, through `Answerer.ask_many`."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from haystack.errors import FilterError

from bloomz_haystack.answering import Answer, Answerer
from bloomz_haystack.batch.answer_file import answer_file, rows_of
from bloomz_haystack.batch.questions import BatchQuestion
from bloomz_haystack.files.printable import counted


@dataclass
class BatchSummary:
    """What a batch did: questions answered, those without a passage, rows written; then the seconds of each step."""

    out: str
    questions: int = 0
    without_passage: int = 0
    rows: int = 0
    seconds: float = 0.0  # loading the models included
    steps: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # lines and questions that were skipped

    def as_json(self) -> dict[str, Any]:
        """Return what `bloomz ask --batch --json` prints."""
        steps = {name: round(seconds, 3) for name, seconds in self.steps.items()}
        return {**asdict(self), "seconds": round(self.seconds, 3), "steps": steps}

    def as_lines(self) -> list[str]:
        """Return what `bloomz ask --batch` prints."""
        found = f"{counted(self.rows, 'passage')} in {self.out}"
        speed = f"{self.seconds:.1f} s, {self.questions / max(self.seconds, 1e-3):,.1f} questions/s"
        lines = [f"{counted(self.questions, 'question')} answered: {found}", speed]
        if self.without_passage:
            lines.append(f"{counted(self.without_passage, 'question')} without a passage")
        if self.problems:
            lines.append(f"{counted(len(self.problems), 'problem')}, named above and skipped")
        return lines


def answer_batch(
    answerer: Answerer,
    questions: Iterable[BatchQuestion],
    out: Path,
    *,
    limits: dict[str, Any],
    advanced: Callable[[int], object] = lambda questions: None,
    skipped: Callable[[str], object] = lambda reason: None,
) -> BatchSummary:
    """Answer questions and write the answers to a file, whole or not at all.

    :param answerer: with the store and the models.
    :param questions: in any number; neighbours with the same filters are answered together.
    :param out: a file that ends in .parquet or .jsonl; replaced if it is there.
    :param limits: `top_k`, `candidates`, `threshold`, as for `Answerer.ask`.
    :param advanced: called with the number of questions done.
    :param skipped: called with each question whose filters the store refuses, and why.
    :returns: the counts.
    """
    start, summary = time.perf_counter(), BatchSummary(str(out))

    def refuse(reason: str) -> None:
        summary.problems.append(reason)
        skipped(reason)

    with answer_file(out) as file:
        for question, answer in _answers(answerer, questions, limits, refuse):
            rows = rows_of(question, answer)
            file.write(rows)
            summary.questions += 1
            summary.rows += len(rows)
            summary.without_passage += not rows
            for step, seconds in answer.seconds.items():
                summary.steps[step] = summary.steps.get(step, 0.0) + seconds
            advanced(1)
    summary.seconds = time.perf_counter() - start
    return summary


def _answers(
    answerer: Answerer,
    questions: Iterable[BatchQuestion],
    limits: dict[str, Any],
    refuse: Callable[[str], object],
) -> Iterator[tuple[BatchQuestion, Answer]]:
    for filters, group in groupby(questions, key=lambda question: question.filters):
        asked = list(group)
        try:
            texts = (question.text for question in asked)
            yield from zip(asked, answerer.ask_many(texts, filters=filters, **limits), strict=True)
        except FilterError as error:  # before the first of them is answered
            for question in asked:
                refuse(f"question {question.id}: {error}")
