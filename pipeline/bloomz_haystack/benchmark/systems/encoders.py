"""A `System` of kind "encoder" -> an object that turns texts into vectors.

Bloom goes through our engine, without padding; CamemBERT, XLM-RoBERTa, MPNet, BERT and whatever else there is through
sentence-transformers. Vectors are raw: the cosine divides by their norms itself. Prefixes are the caller's business.
Knows no corpus and no metric.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.systems.checkpoints import TOKENS_A_TEXT, WINDOW_BATCHES, open_baseline, open_bloom
from bloomz_haystack.benchmark.systems.systems import System
from bloomz_haystack.models.find import ModelFiles, find_model
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, Placement, choose_placement, close_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder


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
    """Texts -> vectors. The weights are loaded at the first `encode`: cached vectors need none."""

    def __init__(self, system: System, files: ModelFiles, device: str | None, batch_tokens: int) -> None:
        """Keep the settings.

        :param system: the row.
        :param files: where its weights are.
        :param device: as for `choose_placement`.
        :param batch_tokens: tokens computed together, padding counted.
        """
        self.system, self.files, self.batch_tokens = system, files, batch_tokens
        self.placement: Placement = choose_placement(device, precision=system.precision)

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on: weights and tokenizer, pooling, length, dtype."""
        dtype = self.system.precision or self.placement.dtype
        return "|".join(map(str, (self.files.fingerprint, self.system.pooling, self.system.max_length, dtype)))

    def encode(self, texts: Sequence[str], progress: Callable[[int], object] | None = None) -> npt.NDArray[np.float32]:
        """Embed texts, prefix included.

        :param texts: B texts.
        :param progress: called with the number of texts done, after each batch.
        :returns: (B, H) float32, in the order of the texts; their norms are the model's own.
        :raises VectorsNotFinite: a `ValueError` naming the system and the first text, for NaN or Inf.
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
    def _encode(self, texts: Sequence[str], progress: Callable[[int], object] | None) -> npt.NDArray[np.float32]:
        """Return raw vectors (B, H), those that are not finite included."""


def open_text_model(system: System, device: str | None = None, batch_tokens: int = 2048) -> TextModel:
    """Return the model of a system.

    :param system: of kind "encoder".
    :param device: "cpu", "cuda:1"; None chooses.
    :param batch_tokens: tokens computed together.
    :returns: what encodes its texts.
    :raises ModelNotAvailable: if the weights cannot be had here.
    :raises ValueError: if the precision does not suit the model.
    """
    files = find_model(system.model, system.revision)
    last = system.pooling == "last" or (system.pooling is None and not files.has_modules)
    by_engine = files.config["model_type"] == "bloom" and last
    if system.precision and not by_engine:
        raise ValueError(f"system {system.name!r}: precision {system.precision!r} is for Bloom with last-token pooling")
    return (_BloomTextModel if by_engine else _BaselineTextModel)(system, files, device, batch_tokens)


class _BloomTextModel(TextModel):
    """Bloom by the engine."""

    _checkpoint: Checkpoint | None = None

    def close(self) -> None:
        if self._checkpoint is not None:
            close_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _encode(self, texts: Sequence[str], progress: Callable[[int], object] | None) -> npt.NDArray[np.float32]:
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


class _BaselineTextModel(TextModel):
    """Any other encoder, by sentence-transformers."""

    _loaded: Any = None

    def close(self) -> None:
        self._loaded = None

    def _encode(self, texts: Sequence[str], progress: Callable[[int], object] | None) -> npt.NDArray[np.float32]:
        self._loaded = self._loaded or self._load()
        batch_size = max(1, self.batch_tokens // TOKENS_A_TEXT)
        parts = []
        for start in range(0, len(texts), WINDOW_BATCHES * batch_size):
            window = list(texts[start : start + WINDOW_BATCHES * batch_size])
            # An empty prompt: else a model's own default would come on top of the row's prefix.
            parts.append(self._loaded.encode(window, prompt="", batch_size=batch_size, show_progress_bar=False))
            if progress:
                progress(len(window))
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _load(self) -> Any:  # noqa: ANN401
        model = open_baseline(self.files, "SentenceTransformer", self.placement)
        if self.system.pooling:
            from sentence_transformers.sentence_transformer.modules import Pooling

            mode = {"last": "lasttoken"}.get(self.system.pooling, self.system.pooling)
            pooling = Pooling(model[0].get_embedding_dimension(), mode)
            model = type(model)(modules=[model[0], pooling], device=str(self.placement.device))
        if self.system.max_length:
            model.max_seq_length = self.system.max_length
        return model
