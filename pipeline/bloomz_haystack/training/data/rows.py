"""One object of a data file -> `TextRow`: question, passage and hard negatives, each in the languages it has.

Schemas: that of cmarkea/mmarco-contrastive, `{"id", "query": {"english", "french"}, "positive": {"english",
"french"}, "negatives": [{"english", "french", "score"}]}`, where a side, the query or the negatives may be null or
absent; and parallel sentences, `{"english", "french"}`. Knows nothing of files, tokenizers or batches.
"""

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from haystack_integrations.common.bloomz.tokens import TokenIds

SIDE_LANGUAGES = ("english", "french")

Content = TypeVar("Content")  # str, or TokenIds
Sides = dict[str, Content]  # language -> text or token ids; only the languages that exist, English first


class BadRowError(ValueError):
    """An object that is no row; the message is the reason."""


class Negative(NamedTuple, Generic[Content]):
    """A passage that does not answer, in one or two languages."""

    sides: Sides[Content]
    score: float  # a ranker's probability of relevance; 0 where none was asked
    group: int  # as in a row


class TrainingRow(NamedTuple, Generic[Content]):
    """A question (in 0 to 2 languages), the passage that answers it (1 to 2), and passages that do not."""

    queries: Sides[Content]
    positives: Sides[Content]
    group: int  # rows of the same group have the same passage
    parallel: bool = False  # a sentence and its translation: each side asks for the other
    negatives: Sequence[Negative[Content]] = ()
    id: Any = None  # text or number, as in the file


TextRow: TypeAlias = TrainingRow[str]
TokenRow: TypeAlias = TrainingRow[TokenIds]


def parse_row(values: object) -> TextRow:
    """Return one object of a file as a row.

    :param values: what JSON or parquet holds.
    :returns: the row; equal texts of several rows share their memory.
    :raises BadRowError: saying what was expected.

    >>> parse_row({"query": None, "positive": {"english": "A bridge.", "french": "Un pont."}}).positives["french"]
    'Un pont.'
    """
    if not isinstance(values, dict):
        raise BadRowError(f"expected an object, but got {type(values).__name__}")
    if "positive" not in values:
        sentences = _sides(values, "the sentence pair")
        if len(sentences) < len(SIDE_LANGUAGES):
            raise BadRowError("expected 'positive', or a sentence in 'english' and in 'french'")
        return TrainingRow(sentences, sentences, passage_group(sentences), parallel=True)
    queries = _sides(values.get("query") or {}, "'query'")
    positives = _sides(values["positive"], "'positive'")
    if not positives:
        raise BadRowError("'positive' has no text in English or in French")
    negatives = [_negative(negative) for negative in _list(values.get("negatives"))]
    return TrainingRow(queries, positives, passage_group(positives), negatives=negatives, id=values.get("id"))


def hardest(row: TrainingRow[Content], limit: int, false_negative: float) -> list[Negative[Content]]:
    """Return the negatives of a row that are worth training on.

    :param row: with negatives.
    :param limit: how many at most.
    :param false_negative: a passage scored at or above it is taken to answer after all.
    :returns: the highest scores below that, hardest first; equal scores keep their order.
    """
    true = [item for item in row.negatives if item.score < false_negative and item.group != row.group]
    return sorted(true, key=lambda item: -item.score)[:limit]


def passage_group(sides: Sides[str]) -> int:
    """Return the number of a passage, the same in every run.

    :param sides: texts.
    :returns: the number of its first side.
    """
    return text_group(next(iter(sides.values())))


@lru_cache(maxsize=1 << 16)
def text_group(text: str) -> int:
    """Return the same number for texts that differ in white space or case only.

    :param text: any.
    :returns: 64 bits of a hash.

    >>> text_group("Un   pont. ") == text_group("un pont.")
    True
    """
    folded = " ".join(text.split()).casefold()
    return int.from_bytes(blake2b(folded.encode("utf-8"), digest_size=8).digest(), "little", signed=True)


def _sides(given: object, name: str) -> Sides[str]:
    if not isinstance(given, dict):
        raise BadRowError(f"{name} must be an object with 'english' and 'french', but got {type(given).__name__}")
    present = {language: given[language] for language in SIDE_LANGUAGES if given.get(language) is not None}
    return {language: _text(text, f"{name} in {language.title()}") for language, text in present.items()}


def _text(text: object, name: str) -> str:
    if not isinstance(text, str):
        raise BadRowError(f"{name} must be a text, but got {type(text).__name__}")
    if not text.strip():
        raise BadRowError(f"{name} is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRowError(f"{name} holds half a character (a lone surrogate)") from None
    return sys.intern(text)


def _list(given: object) -> list[object]:
    if given is not None and not isinstance(given, list):
        raise BadRowError(f"'negatives' must be a list, but got {type(given).__name__}")
    return given or []


def _negative(given: object) -> Negative[str]:
    sides = _sides(given, "a negative")
    if not sides:
        raise BadRowError("a negative has no text in English or in French")
    score = given.get("score") if isinstance(given, dict) else None
    if score is None:
        score = 0.0
    if isinstance(score, bool) or not isinstance(score, int | float) or math.isnan(score):
        raise BadRowError(f"the score of a negative must be a number, but got {score!r}")
    return Negative(sides, float(score), passage_group(sides))
