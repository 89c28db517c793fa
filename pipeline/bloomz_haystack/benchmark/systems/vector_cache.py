"""Texts and a model -> their vectors, kept on disk: a second table costs no encoding.

One file holds the vectors of one list of texts, under a key made of the texts, the prefix and the model's fingerprint.
It is written whole or not at all. Several processes may share a folder: at worst two compute the same. Knows neither
corpora nor what a model is, beyond `encode`.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from haystack_integrations.common.bloomz.whole_files import replacing

logger = logging.getLogger(__name__)


class VectorSource(Protocol):
    """What the cache needs of a `TextModel`."""

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on, beside the texts."""
        ...

    def encode(self, texts: Sequence[str], progress: Callable[[int], object] | None = None) -> npt.NDArray[np.float32]:
        """Return (B, H) float32."""
        ...


def cached_vectors(
    model: VectorSource,
    texts: Sequence[str],
    folder: Path,
    *,
    prefix: str = "",
    progress: Callable[[int], object] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the vectors of some texts: from disk, or computed and kept.

    :param model: called only for what is not kept yet.
    :param texts: B texts, at least one.
    :param folder: of the cache; made if need be.
    :param prefix: put before each text.
    :param progress: called with the number of texts done, those found on disk included.
    :returns: (B, H) float32.
    :raises ValueError: if there is no text; as `VectorsNotFinite`, for NaN or Inf, with the text's position.
    """
    if not texts:
        raise ValueError("there is no text to encode: expected at least one")
    key = hash_texts([model.fingerprint, prefix, *texts])
    file = folder / f"{key[:32]}.safetensors"
    vectors = _read(file, key, len(texts))
    if vectors is None:
        vectors = np.ascontiguousarray(model.encode([prefix + text for text in texts], progress), np.float32)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file, durable=False) as path:
            path.write_bytes(save({"vectors": vectors}, {"key": key}))  # save_file would set modes of its own
    elif progress:
        progress(len(texts))
    return vectors


def hash_texts(texts: Sequence[str]) -> str:
    """Return what identifies a list of texts.

    :param texts: in their order.
    :returns: SHA-256 over each text's length and bytes, so that moving a border between two texts changes it.
    """
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _read(file: Path, key: str, count: int) -> npt.NDArray[np.float32] | None:
    """The vectors, if the file is whole and was written for this key; a torn or foreign one counts as absent."""
    if not file.exists():
        return None
    try:
        with safe_open(file, "np") as kept:
            vectors: npt.NDArray[np.float32] = kept.get_tensor("vectors")
            if (kept.metadata() or {}).get("key") == key and vectors.dtype == np.float32 and len(vectors) == count:
                return vectors
    except (OSError, SafetensorError):
        pass
    logger.warning("%s is torn or foreign: its vectors are computed again", file.name)
    return None
