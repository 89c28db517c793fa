"""Texts and a model -> their vectors, kept on disk: a second table costs no encoding.

A set of vectors is known by the texts, the prefix and the model's fingerprint. It is computed in shards, each written
whole or not at all, so that an interrupted run goes on after the last finished one. Several processes may share a
folder: at worst two compute the same. Knows neither corpora nor what a model is, beyond ``encode``.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.systems.encoders import VectorsNotFinite
from bloomz_haystack.files.provenance import sha256
from haystack_integrations.common.bloomz.whole_files import replacing

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
Progress = Callable[[int], Any]
SHARD_TEXTS = 20_000


class Encoding(Protocol):
    """What is needed of a ``TextModel``."""

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on, beside the texts."""
        ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Give (B, H) float32."""
        ...


class _Kept(NamedTuple):
    """Where one array and the record that vouches for it are."""

    vectors: Path
    record: Path


def cached_vectors(
    model: Encoding,
    texts: Sequence[str],
    folder: Path,
    *,
    ids: Sequence[str] = (),
    prefix: str = "",
    progress: Progress | None = None,
    shard_texts: int = SHARD_TEXTS,
) -> Vectors:
    """Read the vectors of some texts, or compute and keep them.

    :param model: encodes what is not kept yet; not called otherwise.
    :param texts: B texts, at least one.
    :param folder: of the cache; made if need be.
    :param ids: B names of the texts, kept beside the vectors for whoever reads the file; they identify nothing.
    :param prefix: put before each text.
    :param progress: called with the number of texts done, those found on disk included.
    :param shard_texts: texts computed before they are written.
    :returns: (B, H) float32, memory-mapped; what is written to it never reaches the file.
    :raises ValueError: if there is no text; as ``VectorsNotFinite``, for NaN or Inf, with the text's position.
    """
    if not texts:
        raise ValueError("there is no text to encode: expected at least one")
    facts = {"model": model.fingerprint, "prefix": prefix, "texts": hash_texts(texts), "count": len(texts)}
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    whole = _Kept(folder / f"{name}.npy", folder / f"{name}.json")
    vectors = _read(whole, facts)
    if vectors is not None:
        if progress:
            progress(len(texts))
        return vectors
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for start in range(0, len(texts), shard_texts):
        stop = min(start + shard_texts, len(texts))
        shard = _Kept(folder / f"{name}.{start}-{stop}.npy", folder / f"{name}.{start}-{stop}.json")
        _fill(shard, {**facts, "start": start, "stop": stop}, model, texts, progress)
        shards.append(shard)
    _join(whole, shards, {**facts, "ids": list(ids)})
    vectors = _read(whole, facts)
    assert vectors is not None, f"{whole.vectors} was written and cannot be read"
    return vectors


def hash_texts(texts: Sequence[str]) -> str:
    """Identify a list of texts.

    :param texts: in their order.
    :returns: SHA-256 over each text's length and bytes, so that moving a border between two texts changes it.
    """
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _fill(
    shard: _Kept, facts: dict[str, Any], model: Encoding, texts: Sequence[str], progress: Progress | None
) -> None:
    start, stop = facts["start"], facts["stop"]
    if _read(shard, facts) is not None:
        if progress:
            progress(stop - start)
        return
    try:
        vectors = model.encode([facts["prefix"] + text for text in texts[start:stop]], progress)
    except VectorsNotFinite as error:
        raise VectorsNotFinite(error.system, start + error.position) from None
    _write(shard, facts, np.asarray(vectors, dtype=np.float32))


def _join(whole: _Kept, shards: list[_Kept], facts: dict[str, Any]) -> None:
    """One file out of the shards; copied shard by shard, so that memory holds one at most."""
    if len(shards) == 1:
        _write(whole, facts, np.load(shards[0].vectors, mmap_mode="r"))
    else:
        parts = [np.load(shard.vectors, mmap_mode="r") for shard in shards]
        shape = (sum(map(len, parts)), parts[0].shape[1])
        with replacing(whole.vectors) as path:
            joined = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            for start, part in zip(np.cumsum([0, *map(len, parts)]), parts, strict=False):
                joined[start : start + len(part)] = part
            joined.flush()
        _write_record(whole, facts, shape)
    for path in (path for shard in shards for path in shard):
        path.unlink(missing_ok=True)


def _write(kept: _Kept, facts: dict[str, Any], vectors: Vectors) -> None:
    with replacing(kept.vectors) as path, path.open("wb") as file:
        np.save(file, vectors)
    _write_record(kept, facts, vectors.shape)


def _write_record(kept: _Kept, facts: dict[str, Any], shape: tuple[int, ...]) -> None:
    """After the vectors: a record stands only beside vectors that are whole."""
    record = {**facts, "shape": list(shape), "sha256": sha256(kept.vectors)}
    with replacing(kept.record) as path:
        path.write_text(json.dumps(record, ensure_ascii=True), encoding="utf-8")


def _read(kept: _Kept, facts: dict[str, Any]) -> Vectors | None:
    """The array, if it is there and what its record says; a torn or foreign one counts as absent."""
    if not kept.record.exists():
        return None
    try:
        record = json.loads(kept.record.read_text(encoding="utf-8"))
        same = all(record[key] == value for key, value in facts.items())
        if same and record["sha256"] == sha256(kept.vectors):
            # "c", not "r": the file is as safe, and torch warns of arrays that cannot be written to
            return np.load(kept.vectors, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    logger.warning("%s is torn or was changed: its vectors are computed again", kept.vectors.name)
    return None
