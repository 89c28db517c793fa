"""Units of work -> parts, by one model on one device: the one place where passages in bulk become vectors.

`BlockEncoder` is what a process of its own, an actor of Ray or a task of Spark holds: made from settings, it loads the
model once, at its first use.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from haystack import Document
from haystack.utils import ComponentDevice
from numpy.typing import NDArray

from bloomz_haystack.cluster.blocks import Block, unit_blocks
from bloomz_haystack.cluster.parts import EmbeddedPart, PartFacts, part_of
from bloomz_haystack.cluster.work import WorkUnit
from bloomz_haystack.files.provenance import sha256
from bloomz_haystack.indexing.files import Note, Problem
from bloomz_haystack.indexing.indexed_files import indexed_file
from bloomz_haystack.indexing.passages import Splitter, surely_fits
from bloomz_haystack.models.find import ModelNotAvailable, find_model
from bloomz_haystack.settings import EmbedSettings
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder


class ModelFacts(NamedTuple):
    """The model that makes the vectors, and how it is computed; of two machines that share a run, all are the same."""

    model: str
    weights: str  # fingerprint
    revision: str | None  # commit on the Hub
    dimension: int
    most_tokens: int
    device: str  # "cpu" or "cuda"
    dtype: str
    precision: str | None


class UnitTask(NamedTuple):
    """A unit, and those of its blocks that are embedded already."""

    unit: WorkUnit
    done: frozenset[int] = frozenset()


class PartMaker(Protocol):
    """Makes parts of units: `BlockEncoder` in this process; others may, on many machines."""

    def facts(self) -> ModelFacts:
        """Return what is known of the model."""

    def parts(self, tasks: Iterable[UnitTask], run: str) -> Iterator[EmbeddedPart]:
        """Yield the parts that are missing, in any order."""

    def close(self) -> None:
        """Let go of the model."""


class BlockEncoder:
    """Embeds blocks of passages; the same block gives the same bits, whatever was embedded before it."""

    def __init__(self, settings: EmbedSettings) -> None:
        """Keep the settings; the model is loaded at its first use.

        :param settings: of the run.
        :raises ValueError: if the device has no known name.
        """
        self.settings = settings
        self.embedder = BloomzDocumentEmbedder(
            settings.model,
            device=ComponentDevice.from_str(settings.device) if settings.device else None,
            batch_tokens=settings.batch_tokens,
            precision=settings.precision,
            progress_bar=False,
        )

    def facts(self) -> ModelFacts:
        """Return what is known of the model; loads it if needed."""
        placement, identity = self.embedder.placement, self.embedder.identity
        return ModelFacts(
            identity.name if identity else self.settings.model,
            identity.weights if identity else "",
            _revision(self.settings.model),
            self.embedder.dimension,
            self.embedder.most_tokens,
            placement.device.type,
            str(placement.dtype).removeprefix("torch."),
            self.settings.precision,
        )

    def vectors(
        self, passages: list[Document], on_truncated: Callable[[list[Document]], object] | None = None
    ) -> NDArray[np.float32]:
        """Embed passages.

        :param passages: B of them, one block: others beside them would change their last bits.
        :param on_truncated: called with those that lost their end, if any did.
        :returns: (B, H) float32, of length one.
        """
        return self.embedder.embed(passages, on_truncated=on_truncated)

    def parts(self, tasks: Iterable[UnitTask], run: str) -> Iterator[EmbeddedPart]:
        """Read units and embed the blocks that are missing.

        :param tasks: the units.
        :param run: fingerprint of the run, which each part bears.
        :yields: the parts, unit by unit.
        """
        splitter = Splitter(self.settings.passage_words, self._fits)
        for unit, done in tasks:
            files = [{**indexed_file(file)._asdict(), "sha256": sha256_if_there(file.path)} for file in unit.files]
            for block in unit_blocks(unit, splitter, self.settings.part_passages):
                if block.number not in done:
                    yield self._part(block, files, run)

    def _part(self, block: Block, files: list[dict[str, str]], run: str) -> EmbeddedPart:
        truncated: list[Document] = []
        vectors = self.vectors(block.passages, truncated.extend)
        problems = [list(remark) for remark in block.remarks if isinstance(remark, Problem)]
        notes = [list(remark) for remark in block.remarks if isinstance(remark, Note)]
        facts = PartFacts(run, block.unit, block.number, block.last, len(truncated), problems, notes, files)
        return part_of(facts, block.passages, vectors)

    def _fits(self, text: str) -> bool:
        return surely_fits(text, self.embedder.most_tokens) or self.embedder.fits(text)

    def close(self) -> None:
        """Let go of the model; it is loaded again if needed."""
        self.embedder.close()


def sha256_if_there(path: Path) -> str:
    """Return the SHA-256 of a file; "" for one that cannot be read, which is named when its text is wanted.

    :param path: of the file.
    :returns: 64 hexadecimal digits, or "".
    """
    try:
        return sha256(path)
    except OSError:
        return ""


def _revision(model: str) -> str | None:
    with suppress(ModelNotAvailable):
        return find_model(model, local_files_only=True).commit
    return None
