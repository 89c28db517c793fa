"""Questions whose answer is known to the character -> how often each way marks the sentence that holds it.

The ways: `BloomzSentenceReader`'s, its two halves (words, cosine), the first sentence, a sentence at random.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bloomz_haystack.benchmark.corpora.corpus_files import read_slice
from bloomz_haystack.files.squad import read_squad
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.plain_text import plain_text
from haystack_integrations.common.bloomz.sentences import TextSpan, sentences
from haystack_integrations.components.readers.bloomz.sentence_scores import sentence_scores, shared_words

TOGETHER = 256  # questions whose passages are embedded together


class SpanQuestion(NamedTuple):
    """A question, its passage, and where its answers stand in it."""

    text: str
    passage: str
    answers: tuple[TextSpan, ...]


class SentenceShares(NamedTuple):
    """Shares from 0 to 1 of the questions whose answer lies in the sentence that each way marks, by its name."""

    questions: int
    sentences: float  # of a passage, on average
    shares: dict[str, float]


def read_span_questions(passages: Path, questions: Path | None, limit: int | None, seed: int) -> list[SpanQuestion]:
    """Return the questions of a SQuAD file that have answers with offsets.

    :param passages: SQuAD format.
    :param questions: the same questions in another language, by id: SQuAD format too, or JSON lines of
        `{id, question_fr}`; None takes those of the passages' file.
    :param limit: how many to draw; None takes all.
    :param seed: of the draw.
    :returns: the questions; those drawn, in random order.
    :raises ValueError: if a file cannot be read, or no question has an answer.
    """
    asked = _texts_by_id(questions) if questions is not None else None
    found = [
        SpanQuestion(
            question.text if asked is None else asked[question.id],
            paragraph.context,
            tuple(TextSpan(answer.start, answer.start + len(answer.text)) for answer in question.answers),
        )
        for paragraph in read_squad(passages)
        for question in paragraph.questions
        if question.answers and (asked is None or question.id in asked)
    ]
    if not found:
        raise ValueError(f"{passages} holds no question with an answer and its answer_start")
    return found if limit is None or limit >= len(found) else random.Random(seed).sample(found, limit)  # noqa: S311


def measure_answer_sentences(
    model: str, questions: Sequence[SpanQuestion], progress: Callable[[int], Any] | None = None
) -> SentenceShares:
    """Measure each way of marking a sentence.

    :param model: retriever: bundled name, folder or Hub name.
    :param questions: n of them.
    :param progress: called with the number of questions done.
    :returns: the shares.
    """
    encoder = Encoder(open_checkpoint(model, "embed"))
    hits: dict[str, list[float]] = {}
    counts = []
    for start in range(0, len(questions), TOGETHER):
        block = questions[start : start + TOGETHER]
        spans = {question.passage: sentences(question.passage) for question in block}
        texts = {passage: [plain_text(passage[a:b]) for a, b in found] for passage, found in spans.items()}
        flat = [text for part in texts.values() for text in part]
        ends = np.cumsum([len(part) for part in texts.values()])
        vectors = dict(zip(texts, np.split(encoder.encode(flat), ends[:-1]), strict=True))
        asked = encoder.encode([plain_text(question.text) for question in block])
        for question, vector in zip(block, asked, strict=True):
            found = spans[question.passage]
            holds = [any(a < end and start < b for start, end in question.answers) for a, b in found]
            cosines = vectors[question.passage] @ vector
            marked = {
                "words and cosine": sentence_scores(plain_text(question.text), texts[question.passage], cosines),
                "cosine": cosines,
                "words": shared_words(plain_text(question.text), texts[question.passage]),
                "first sentence": -np.arange(len(found)),
            }
            for way, scores in marked.items():
                hits.setdefault(way, []).append(holds[int(np.argmax(scores))])
            hits.setdefault("random sentence", []).append(float(np.mean(holds)))
            counts.append(len(found))
        if progress:
            progress(len(block))
    return SentenceShares(
        len(questions), float(np.mean(counts)), {way: float(np.mean(hit)) for way, hit in hits.items()}
    )


def _texts_by_id(path: Path) -> dict[str, str]:
    if path.suffix == ".jsonl":
        return {row.id: row.questions["fr"] for row in read_slice(path)}
    return {question.id: question.text for paragraph in read_squad(path) for question in paragraph.questions}
