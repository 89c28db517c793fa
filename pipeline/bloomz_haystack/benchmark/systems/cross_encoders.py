"""A ``Ranker`` -> an object that gives the probability that a context answers a question.

Bloom with two labels and the context first goes through the engine; any other cross-encoder of one or two labels
through transformers. Knows no corpus.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bloomz_haystack.benchmark.systems.loading import load_transformers, open_bloom, padded_batches, token_limit
from bloomz_haystack.benchmark.systems.systems import Ranker
from bloomz_haystack.models.find import ModelFiles, find_model
from bloomz_haystack.models.pair_scores import score_pairs
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    Placement,
    choose_placement,
    close_checkpoint,
    positive_label,
)
from haystack_integrations.common.bloomz.scorer import probabilities, score_prior_of

Scores = npt.NDArray[np.float32]
Progress = Callable[[int], Any]
Pairs = Sequence[tuple[str, str]]  # (context, question), whatever order the model reads them in
WINDOW_PAIRS = 4096  # pairs tokenised and length-sorted together: bounds the memory of a long list


class CrossEncoder(ABC):
    """Question and contexts -> probabilities. The weights are loaded at the first score."""

    def __init__(self, ranker: Ranker, files: ModelFiles, device: str | None, batch_tokens: int) -> None:
        """Keep the settings.

        :param ranker: the row.
        :param files: where its weights are.
        :param device: as for ``choose_placement``.
        :param batch_tokens: tokens computed together.
        """
        self.ranker, self.files, self.batch_tokens = ranker, files, batch_tokens
        self.placement: Placement = choose_placement(device, precision=ranker.precision)

    @property
    def score_prior(self) -> float:
        """How much the first stage's scores count: as the row says, else the model's own configuration."""
        if self.ranker.score_prior is not None:
            return self.ranker.score_prior
        return score_prior_of(SimpleNamespace(**self.files.config))

    @property
    def fingerprint(self) -> str:
        """What the scores depend on: weights and tokenizer, order of the pair, length, dtype."""
        order = "context first" if self.ranker.context_first else "question first"
        dtype = self.ranker.precision or self.placement.dtype
        return "|".join(map(str, (self.files.fingerprint, order, self.ranker.max_length, dtype)))

    def score(self, question: str, contexts: Sequence[str]) -> Scores:
        """Score the contexts of one question.

        :param question: never cut.
        :param contexts: K contexts; the end of one that is too long is cut.
        :returns: (K,) float32 probabilities.
        """
        return self.score_many([question], [contexts])[0]

    def score_many(
        self, questions: Sequence[str], contexts: Sequence[Sequence[str]], progress: Progress | None = None
    ) -> list[Scores]:
        """Score the contexts of several questions, pairs of like length together.

        :param questions: Q texts.
        :param contexts: Q lists of contexts.
        :param progress: called with the number of pairs done, after each batch.
        :returns: Q arrays (K,) float32 of probabilities.
        :raises ValueError: if the lists do not match, a question leaves no room for a context, or a score is NaN or
            Inf (names the ranker and the question's position).
        :raises ModelNotAvailable: if the weights turn out to be broken.
        """
        return [probabilities(odds).astype(np.float32) for odds in self.log_odds_many(questions, contexts, progress)]

    def log_odds_many(
        self, questions: Sequence[str], contexts: Sequence[Sequence[str]], progress: Progress | None = None
    ) -> list[Scores]:
        """Score likewise, in log-odds: where float32 probabilities near 1 are equal, these still differ.

        :param questions: Q texts.
        :param contexts: Q lists of contexts.
        :param progress: called with the number of pairs done, after each batch.
        :returns: Q arrays (K,) float32 of log-odds.
        :raises ValueError: as ``score_many``.
        """
        if len(questions) != len(contexts):
            raise ValueError(
                f"expected a list of contexts for each question, but got {len(contexts)} lists for "
                f"{len(questions)} questions"
            )
        pairs = [(context, question) for question, own in zip(questions, contexts, strict=True) for context in own]
        parts = np.split(self._log_odds(pairs, progress), np.cumsum([len(own) for own in contexts])[:-1])
        for position, part in enumerate(parts):
            if not np.isfinite(part).all():
                raise ValueError(
                    f"ranker {self.ranker.name!r} gave NaN or Inf for question {position} (counted from 0)"
                )
        return parts

    @abstractmethod
    def close(self) -> None:
        """Free the weights."""

    @abstractmethod
    def _log_odds(self, pairs: Pairs, progress: Progress | None) -> Scores:
        """Give (B,) log-odds, in the order of the pairs."""


def open_cross_encoder(
    ranker: Ranker, device: str | None = None, batch_tokens: int = 2048, local_files_only: bool = False
) -> CrossEncoder:
    """Find the model of a ranker.

    :param ranker: the row.
    :param device: "cpu", "cuda:1"; None chooses.
    :param batch_tokens: tokens computed together.
    :param local_files_only: never ask the Hub.
    :returns: what scores its pairs.
    :raises ModelNotAvailable: if the weights cannot be had here.
    """
    files = find_model(ranker.model, ranker.revision, local_files_only=local_files_only)
    two_labels = len(files.config.get("id2label") or (0, 1)) == 2  # a config without labels means two
    if files.config["model_type"] == "bloom" and ranker.context_first and two_labels:
        return _BloomCrossEncoder(ranker, files, device, batch_tokens)
    if ranker.precision:
        raise ValueError(
            f"ranker {ranker.name!r}: precision {ranker.precision!r} is for Bloom that reads the context first"
        )
    return _PaddedCrossEncoder(ranker, files, device, batch_tokens)


class _BloomCrossEncoder(CrossEncoder):
    """Bloom by the engine."""

    _checkpoint: Checkpoint | None = None

    def close(self) -> None:
        if self._checkpoint is not None:
            close_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _log_odds(self, pairs: Pairs, progress: Progress | None) -> Scores:
        if self._checkpoint is None:
            self._checkpoint = open_bloom(self.files, "rank", self.placement, self.ranker.precision)
        try:
            return score_pairs(self._checkpoint, pairs, self.batch_tokens, progress, self.ranker.max_length)
        except FloatingPointError as error:
            raise ValueError(f"ranker {self.ranker.name!r}: {error}") from None


class _PaddedCrossEncoder(CrossEncoder):
    """Any cross-encoder of transformers, with one label (logistic) or two (softmax)."""

    _loaded: tuple[Any, Any] | None = None

    def close(self) -> None:
        self._loaded = None

    def _log_odds(self, pairs: Pairs, progress: Progress | None) -> Scores:
        windows = [pairs[start : start + WINDOW_PAIRS] for start in range(0, len(pairs), WINDOW_PAIRS)]
        return np.concatenate([np.empty(0, np.float32), *[self._window(window, progress) for window in windows]])

    def _window(self, pairs: Pairs, progress: Progress | None) -> Scores:
        tokenizer, model = self._loaded or self._load()
        odds = np.empty(len(pairs), dtype=np.float32)
        tokens = self._tokens(tokenizer, model.config, pairs)
        for places, batch in padded_batches(tokenizer, tokens, self.batch_tokens):
            with torch.inference_mode():
                logits = model(**batch.to(self.placement.device)).logits.float().cpu().numpy()  # (b, 1 or 2)
            if logits.shape[1] == 2:
                positive = positive_label(model.config)
                odds[places] = logits[:, positive] - logits[:, 1 - positive]
            else:
                odds[places] = logits[:, 0]
            if progress:
                progress(len(places))
        return odds

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModelForSequenceClassification

        tokenizer, model = load_transformers(self.files, AutoModelForSequenceClassification, self.placement)
        if model.config.num_labels != 1:
            positive_label(model.config)  # refuses more than two labels, and two without a positive name
        self._loaded = tokenizer, model
        return self._loaded

    def _tokens(self, tokenizer: Any, config: Any, pairs: Pairs) -> Any:  # noqa: ANN401
        limit = self.ranker.max_length or self.files.max_length or token_limit(tokenizer, config)
        contexts, questions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        first, second, cut = (
            (contexts, questions, "only_first") if self.ranker.context_first else (questions, contexts, "only_second")
        )
        try:
            return tokenizer(first, second, truncation=cut, max_length=limit)
        except Exception as error:  # tokenizers raises bare exceptions
            longest = max(questions, key=len)
            raise ValueError(
                f"ranker {self.ranker.name!r} cannot read a pair of max_length={limit} tokens: does the question leave "
                f"room for a context? The longest has {len(longest)} characters ({error})"
            ) from error
