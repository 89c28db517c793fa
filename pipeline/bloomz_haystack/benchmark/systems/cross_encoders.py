"""A `Ranker` -> an object that gives the log-odds that a passage answers a question.

Bloom with two labels and the passage first goes through our engine; any other cross-encoder of one or two labels
through sentence-transformers. Knows no corpus.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from bloomz_haystack.benchmark.systems.checkpoints import TOKENS_A_TEXT, WINDOW_BATCHES, open_baseline, open_bloom
from bloomz_haystack.benchmark.systems.systems import Ranker
from bloomz_haystack.models.find import ModelFiles, find_model
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    Placement,
    choose_placement,
    close_checkpoint,
    positive_label,
)
from haystack_integrations.common.bloomz.pair_scores import score_pairs
from haystack_integrations.common.bloomz.scorer import score_prior_of, score_share_of

Pairs = Sequence[tuple[str, str]]  # (passage, question), whatever order the model reads them in
NO_LIMIT = 2**20  # a tokenizer without a limit of its own says 10^30


class CrossEncoder(ABC):
    """Questions and passages -> log-odds. The weights are loaded at the first pair."""

    def __init__(self, ranker: Ranker, files: ModelFiles, device: str | None, batch_tokens: int) -> None:
        """Keep the settings.

        :param ranker: the row.
        :param files: where its weights are.
        :param device: as for `choose_placement`.
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
    def score_share(self) -> bool:
        """Whether probabilities are shares among the candidates: as the model's own configuration says."""
        return score_share_of(SimpleNamespace(**self.files.config))

    def log_odds(
        self,
        questions: Sequence[str],
        passages: Sequence[Sequence[str]],
        progress: Callable[[int], object] | None = None,
    ) -> list[npt.NDArray[np.float32]]:
        """Return the log-odds of each question's passages: where probabilities near 1 are equal, these still differ.

        :param questions: Q texts, never cut.
        :param passages: Q lists of passages; the end of one that is too long is cut.
        :param progress: called with the number of pairs done, after each batch.
        :returns: Q arrays (K,) float32.
        :raises ValueError: if the lists do not match, a question leaves no room for a passage, or a score is NaN or
            Inf (names the ranker and the question's position).
        :raises ModelNotAvailable: if the weights turn out to be broken.
        """
        if len(questions) != len(passages):
            raise ValueError(
                f"expected a list of passages for each question, but got {len(passages)} lists for "
                f"{len(questions)} questions"
            )
        pairs = [(passage, question) for question, own in zip(questions, passages, strict=True) for passage in own]
        parts = np.split(self._log_odds(pairs, progress), np.cumsum([len(own) for own in passages])[:-1])
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
    def _log_odds(self, pairs: Pairs, progress: Callable[[int], object] | None) -> npt.NDArray[np.float32]:
        """Return (B,) log-odds, in the order of the pairs."""


def open_cross_encoder(ranker: Ranker, device: str | None = None, batch_tokens: int = 2048) -> CrossEncoder:
    """Return the model of a ranker.

    :param ranker: the row.
    :param device: "cpu", "cuda:1"; None chooses.
    :param batch_tokens: tokens computed together.
    :returns: what scores its pairs.
    :raises ModelNotAvailable: if the weights cannot be had here.
    :raises ValueError: if the precision does not suit the model.
    """
    files = find_model(ranker.model, ranker.revision)
    two_labels = len(files.config.get("id2label") or (0, 1)) == 2  # a config without labels means two
    if files.config["model_type"] == "bloom" and ranker.context_first and two_labels:
        return _BloomCrossEncoder(ranker, files, device, batch_tokens)
    if ranker.precision:
        raise ValueError(
            f"ranker {ranker.name!r}: precision {ranker.precision!r} is for Bloom that reads the passage first"
        )
    return _BaselineCrossEncoder(ranker, files, device, batch_tokens)


class _BloomCrossEncoder(CrossEncoder):
    """Bloom by the engine."""

    _checkpoint: Checkpoint | None = None

    def close(self) -> None:
        if self._checkpoint is not None:
            close_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _log_odds(self, pairs: Pairs, progress: Callable[[int], object] | None) -> npt.NDArray[np.float32]:
        if self._checkpoint is None:
            self._checkpoint = open_bloom(self.files, "rank", self.placement, self.ranker.precision)
        try:
            return score_pairs(self._checkpoint, pairs, self.batch_tokens, progress, self.ranker.max_length)
        except FloatingPointError as error:
            raise ValueError(f"ranker {self.ranker.name!r}: {error}") from None


class _BaselineCrossEncoder(CrossEncoder):
    """Any other cross-encoder, by sentence-transformers, with one label (logistic) or two (softmax)."""

    _loaded: Any = None

    def close(self) -> None:
        self._loaded = None

    def _log_odds(self, pairs: Pairs, progress: Callable[[int], object] | None) -> npt.NDArray[np.float32]:
        self._loaded = self._loaded or self._load()
        batch_size = max(1, self.batch_tokens // TOKENS_A_TEXT)
        parts = [np.empty(0, np.float32)]
        for start in range(0, len(pairs), WINDOW_BATCHES * batch_size):
            window = pairs[start : start + WINDOW_BATCHES * batch_size]
            parts.append(self._window(window, batch_size))
            if progress:
                progress(len(window))
        return np.concatenate(parts)

    def _window(self, pairs: Pairs, batch_size: int) -> npt.NDArray[np.float32]:
        model, first = self._loaded, self.ranker.context_first
        limit = min(self.ranker.max_length or model.max_seq_length, NO_LIMIT)
        only_passages = {"truncation": "only_first" if first else "only_second", "max_length": limit}
        try:
            logits = model.predict(
                [pair if first else pair[::-1] for pair in pairs],
                batch_size=batch_size,
                show_progress_bar=False,
                activation_fn=nn.Identity(),
                processing_kwargs={"text": only_passages},
            )
        except Exception as error:
            if type(error) is not Exception:  # tokenizers raises bare ones
                raise
            longest = max((question for _, question in pairs), key=len)
            raise ValueError(
                f"ranker {self.ranker.name!r} cannot read a pair of max_length={limit} tokens: does the question leave "
                f"room for a passage? The longest has {len(longest)} characters ({error})"
            ) from error
        if logits.ndim == 1:
            return logits.astype(np.float32)
        positive = positive_label(model.config)
        return (logits[:, positive] - logits[:, 1 - positive]).astype(np.float32)

    def _load(self) -> Any:  # noqa: ANN401
        model = open_baseline(self.files, "CrossEncoder", self.placement)
        if model.config.num_labels != 1:
            positive_label(model.config)  # refuses more than two labels, and two without a positive name
        return model
