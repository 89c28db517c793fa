"""Passages and vectors <-> a part: one Parquet file, whole or not there, that says which run, unit and block it is of.

Columns: id, content, meta (JSON), embedding (list of float32 of fixed size). Knows nothing of models.
"""

import hashlib
import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from haystack import Document
from numpy.typing import NDArray

from bloomz_haystack.cluster.passage_rows import NEEDS_PYARROW
from bloomz_haystack.indexing.files import Note, Problem

KEY = b"bloomz"  # in the metadata of the Parquet schema


class PartFacts(NamedTuple):
    """What is known of a part."""

    run: str  # fingerprint of the run's manifest
    unit: int
    block: int
    last: bool  # of its unit
    truncated: int  # passages that lost their end
    problems: list[list[Any]]  # fields of `Problem`
    notes: list[list[Any]]  # fields of `Note`
    files: list[dict[str, str]]  # fields of `IndexedFile`, and `sha256`, of all files of the unit

    @property
    def name(self) -> str:
        """The name of the file."""
        return f"part-{self.unit:06d}-{self.block:04d}.parquet"

    def remarks(self) -> list[Problem | Note]:
        """Return what there is to say of the files and rows that were read."""
        return [*(Problem(*fields) for fields in self.problems), *(Note(*fields) for fields in self.notes)]


class EmbeddedPart(NamedTuple):
    """A part as it lies in its file."""

    facts: PartFacts
    rows: int
    sha256: str
    data: bytes


class PartPassages(NamedTuple):
    """What a part holds: B passages, and their vectors (B, H) float32."""

    documents: list[Document]
    vectors: NDArray[np.float32]


def part_of(facts: PartFacts, passages: Iterable[Document], vectors: NDArray[np.float32]) -> EmbeddedPart:
    """Write a part to memory; the same passages and vectors give the same bytes.

    :param facts: what is known of it.
    :param passages: B passages.
    :param vectors: (B, H) float32.
    :returns: the part.
    """
    pyarrow, parquet = arrow_modules()
    passages = list(passages)
    columns = {
        "id": pyarrow.array([passage.id for passage in passages], pyarrow.string()),
        "content": pyarrow.array([passage.content for passage in passages], pyarrow.string()),
        "meta": pyarrow.array([json.dumps(passage.meta, ensure_ascii=False) for passage in passages], pyarrow.string()),
        "embedding": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    table = pyarrow.table(columns).replace_schema_metadata({KEY: json.dumps(facts._asdict())})
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=False, write_page_checksum=True)
    data = buffer.getvalue().to_pybytes()
    return EmbeddedPart(facts, len(passages), hashlib.sha256(data).hexdigest(), data)


def read_part(path: Path) -> tuple[EmbeddedPart, Any]:
    """Read a part, every byte of it.

    :param path: of the file.
    :returns: the part, and its `pyarrow.Table`.
    :raises ValueError: if it is torn, damaged, or no part.
    """
    pyarrow, parquet = arrow_modules()
    data = path.read_bytes()
    try:
        table = parquet.read_table(pyarrow.BufferReader(data), page_checksum_verification=True)
        facts = PartFacts(**json.loads(table.schema.metadata[KEY]))
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise ValueError(f"{path} is torn, or no part of bloomz embed ({reason})") from None
    return EmbeddedPart(facts, table.num_rows, hashlib.sha256(data).hexdigest(), data), table


def passages_of_table(table: Any) -> PartPassages:  # noqa: ANN401
    """Return the passages and vectors of a part.

    :param table: its `pyarrow.Table`, or a slice of it.
    :returns: both; the vectors without a copy.
    """
    size = table.schema.field("embedding").type.list_size
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, size)
    columns = [table[name].to_pylist() for name in ("id", "content", "meta")]
    documents = [
        Document(id=key, content=content, meta=json.loads(meta)) for key, content, meta in zip(*columns, strict=True)
    ]
    return PartPassages(documents, vectors)


def arrow_modules() -> tuple[Any, Any]:
    """Return `pyarrow` and `pyarrow.parquet`.

    :returns: both.
    :raises ImportError: if it is not installed.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(NEEDS_PYARROW) from error
