"""Which model made a vector: its name, and a fingerprint of its weights, which go with the vector.

Vectors of two models cannot be compared, and their numbers do not show it. A folder may hold other weights tomorrow
under the same name, and the same weights lie on the Hub and in a copy: so the fingerprint decides, the name is for the
reader. Knows nothing of torch.
"""

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

WEIGHTS = (("model.safetensors",), ("model-*-of-*.safetensors",), ("pytorch_model.bin",), ("pytorch_model-*-of-*.bin",))
WHOLE = 32_000_000  # bytes: a smaller file is read whole
BLOCKS, BLOCK = 1024, 4096  # read of a larger one, evenly over it: every matrix of a trained model changes


class ModelIdentity(NamedTuple):
    """A model's name as the user wrote it (a folder in full) and the fingerprint of its weights."""

    name: str
    weights: str


class Embedding(list[float]):
    """A vector that says which model made it; else a list of floats like any other.

    The identity goes with the list through any pipeline, so that no component needs another input. It belongs to the
    class, a class a model: Haystack copies a list as `type(values)(values)`.
    """

    model: ClassVar[ModelIdentity | None] = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Embedding":
        """Copy at once: floats need no copy, and pipelines copy documents at every step."""
        return type(self)(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name and numbers: another process has its own classes."""
        return embedding_of, (list(self), self.model)


def embedding_of(values: Iterable[float], model: ModelIdentity | None) -> Embedding:
    """Make a vector that knows its model.

    :param values: H floats.
    :param model: which made them; None: not known.
    :returns: a list.

    >>> vector = embedding_of([0.6, 0.8], ModelIdentity("tiny", "17fa"))
    >>> vector == [0.6, 0.8], vector.model.name
    (True, 'tiny')
    """
    return _class_of(model)(values)


@lru_cache(maxsize=64)
def _class_of(model: ModelIdentity | None) -> type[Embedding]:
    return type("Embedding", (Embedding,), {"model": model})


def model_name(model: str) -> str:
    """Write a model's name so that the same model always reads the same.

    :param model: name on the Hub, bundled name or folder.
    :returns: the absolute path of a folder, any other name as it is.
    """
    folder = Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def weights_of(folder: Path) -> str:
    """Return a fingerprint of the weights in a folder; a few milliseconds, whatever their size.

    :param folder: of a checkpoint, as `from_pretrained` reads it.
    :returns: 16 hexadecimal digits; "" where no weights are found.
    """
    digest, files = hashlib.sha256(), _files(folder)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{size} ".encode())
        with file.open("rb") as opened:
            if size <= WHOLE:
                digest.update(opened.read())
                continue
            for place in range(BLOCKS):
                opened.seek((size - BLOCK) * place // (BLOCKS - 1))
                digest.update(opened.read(BLOCK))
    return digest.hexdigest()[:16] if files else ""


def _files(folder: Path) -> list[Path]:
    for patterns in WEIGHTS:
        if found := sorted((file for pattern in patterns for file in folder.glob(pattern)), key=os.fspath):
            return found
    return []
