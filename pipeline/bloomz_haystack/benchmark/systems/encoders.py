"""A ``System`` of kind "encoder" -> an object that turns texts into vectors.

Bloom goes through the engine, without padding; CamemBERT, XLM-RoBERTa, MPNet, BERT through transformers, in batches of
texts of nearly equal length. Vectors are raw: the cosine divides by their norms itself. Prefixes are the caller's
business. Knows no corpus and no metric.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bloomz_haystack.benchmark.systems.loading import load_transformers, open_bloom, padded_batches, token_limit
from bloomz_haystack.benchmark.systems.systems import System
from bloomz_haystack.models.find import ModelFiles, find_model
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, Placement, choose_placement, close_checkpoint
from haystack_integrations.common.bloomz.encoder import WINDOW, Encoder

Vectors = npt.NDArray[np.float32]
Progress = Callable[[int], Any]


class VectorsNotFinite(ValueError):  # noqa: N818  # reads as a sentence where it is raised
    """A system gave NaN or Inf."""

    def __init__(self, system: str, position: int) -> None:
        """Keep both parts.

        :param system: its name.
        :param position: of the first text concerned, counted from 0.
        """
        self.system, self.position = system, position
        super().__init__(
            f"system {system!r} gave NaN or Inf for text {position} (counted from 0): its weights are broken, or its "
            "dtype is too narrow"
        )


class TextModel(ABC):
    """Texts -> vectors. The weights are loaded at the first ``encode``: a table whose vectors are kept needs none."""

    def __init__(self, system: System, files: ModelFiles, device: str | None, batch_tokens: int) -> None:
        """Keep the settings.

        :param system: the row.
        :param files: where its weights are.
        :param device: as for ``choose_placement``.
        :param batch_tokens: tokens computed together, padding counted.
        """
        self.system, self.files, self.batch_tokens = system, files, batch_tokens
        self.pooling = system.pooling or files.pooling
        self.placement: Placement = choose_placement(device, precision=system.precision)

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on: weights and tokenizer, pooling, length, dtype."""
        dtype = self.system.precision or self.placement.dtype
        return "|".join(map(str, (self.files.fingerprint, self.pooling, self.system.max_length, dtype)))

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Embed texts, prefix included.

        :param texts: B texts.
        :param progress: called with the number of texts done, after each batch.
        :returns: (B, H) float32, in the order of the texts; their norms are the model's own.
        :raises VectorsNotFinite: a ``ValueError`` naming the system and the first text, for NaN or Inf.
        :raises ModelNotAvailable: if the weights turn out to be broken.
        """
        vectors = self._encode(texts, progress)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise VectorsNotFinite(self.system.name, int(finite.argmin()))
        return vectors

    @abstractmethod
    def close(self) -> None:
        """Free the weights."""

    @abstractmethod
    def _encode(self, texts: Sequence[str], progress: Progress | None) -> Vectors:
        """Give raw vectors (B, H), those that are not finite included."""


def open_text_model(
    system: System, device: str | None = None, batch_tokens: int = 2048, local_files_only: bool = False
) -> TextModel:
    """Find the model of a system.

    :param system: of kind "encoder".
    :param device: "cpu", "cuda:1"; None chooses.
    :param batch_tokens: tokens computed together.
    :param local_files_only: never ask the Hub.
    :returns: what encodes its texts.
    :raises ModelNotAvailable: if the weights cannot be had here.
    :raises ValueError: if the pooling does not suit the model.
    """
    files = find_model(system.model, system.revision, local_files_only=local_files_only)
    by_engine = files.config["model_type"] == "bloom" and (system.pooling or files.pooling) == "last"
    if system.precision and not by_engine:
        raise ValueError(f"system {system.name!r}: precision {system.precision!r} is for Bloom with last-token pooling")
    return (_BloomTextModel if by_engine else _PaddedTextModel)(system, files, device, batch_tokens)


class _BloomTextModel(TextModel):
    """Bloom by the engine."""

    _checkpoint: Checkpoint | None = None

    def close(self) -> None:
        if self._checkpoint is not None:
            close_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _encode(self, texts: Sequence[str], progress: Progress | None) -> Vectors:
        if self._checkpoint is None:
            self._checkpoint = open_bloom(self.files, "embed", self.placement, self.system.precision)
        encoder = Encoder(self._checkpoint, max_length=self.system.max_length, batch_tokens=self.batch_tokens)
        try:
            return encoder.encode(texts, normalize=False, progress=progress)
        except FloatingPointError:
            raise VectorsNotFinite(self.system.name, _first_failure(encoder, texts)) from None


def _first_failure(encoder: Encoder, texts: Sequence[str]) -> int:
    """Halve the texts until one is left: the engine says that a batch failed, not where."""
    first, stop = 0, len(texts)
    while stop - first > 1:
        middle = (first + stop) // 2
        try:
            encoder.encode(texts[first:middle], normalize=False)
            first = middle
        except FloatingPointError:
            stop = middle
    return first


class _PaddedTextModel(TextModel):
    """Any encoder of transformers."""

    _loaded: tuple[Any, Any] | None = None

    def close(self) -> None:
        self._loaded = None

    def _encode(self, texts: Sequence[str], progress: Progress | None) -> Vectors:
        from transformers import AutoModel

        if self._loaded is None:
            self._loaded = load_transformers(self.files, AutoModel, self.placement)
        tokenizer, model = self._loaded
        limit = self.system.max_length or self.files.max_length or token_limit(tokenizer, model.config)
        vectors = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(texts), WINDOW):
            window = list(texts[start : start + WINDOW])
            tokens = tokenizer(window, truncation=True, max_length=limit)
            for places, batch in padded_batches(tokenizer, tokens, self.batch_tokens):
                vectors[start + places] = self._pooled(model, batch.to(self.placement.device))
                if progress:
                    progress(len(places))
        return vectors

    def _pooled(self, model: Any, batch: Any) -> Vectors:  # noqa: ANN401
        with torch.inference_mode():
            states = model(**batch).last_hidden_state.float()  # (b, L, H)
        return pool(states, batch["attention_mask"], self.pooling).cpu().numpy()


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Give one vector a text, whichever side it is padded on.

    :param states: (b, L, H) hidden states.
    :param mask: (b, L), 1 for a token of the text, 0 for padding.
    :param pooling: "mean", "cls" (the first token) or "last".
    :returns: (b, H).

    >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]), "mean").tolist()
    [[2.0]]
    """
    if pooling == "mean":
        weight = mask.unsqueeze(-1).to(states.dtype)
        # where, not times: a NaN that a padded place holds would spoil the sum
        return torch.where(weight > 0, states, 0.0).sum(1) / weight.sum(1).clamp(min=1.0)
    positions = torch.arange(mask.shape[1], device=mask.device) + 1
    place = (mask * positions).argmax(1) if pooling == "last" else mask.argmax(1)
    return states[torch.arange(len(states), device=states.device), place]
