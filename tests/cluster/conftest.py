"""A folder of texts in French and in English, and files of passages; what a folder of parts holds."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomz_haystack.cluster.embed import embed_inputs
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.settings import EmbedSettings

FRENCH = "La tour Eiffel se trouve à Paris, au bord de la Seine. Elle fut construite en 1889. "
ENGLISH = "The Eiffel tower stands in Paris, on the banks of the Seine. It was built in 1889. "
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Six files, of one to twelve passages of twelve words, and one that holds none."""
    folder = tmp_path / "texts"
    (folder / "plus bas").mkdir(parents=True)
    for number in range(6):
        name = f"plus bas/fichier {number}.txt" if number % 2 else f"file-{number}.md"
        (folder / name).write_text("".join(f"{number}.{place} {FRENCH}{ENGLISH}" for place in range(number + 1)))
    (folder / "empty.txt").write_text(" \n")
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Twenty passages, one a line, half of them with ids."""
    return write_rows(tmp_path)


def write_rows(folder: Path) -> Path:
    """Write the passages of `rows`."""
    lines: list[dict[str, Any]] = []
    for number in range(20):
        text = f"{number} {FRENCH if number % 2 else ENGLISH}"
        lines.append({"content": text, "meta": {"page": number}} | ({"id": f"p{number}"} if number < 10 else {}))
    path = folder / "passages.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


@pytest.fixture
def table(tmp_path: Path, rows: Path) -> Path:
    """The same passages, with others' ids, as Parquet in row groups of 8."""
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    columns = {
        "id": [f"t{number}" for number in range(20)],
        "content": [line["content"] for line in lines],
        "meta": [json.dumps(line["meta"]) for line in lines],
    }
    pq.write_table(pa.table(columns), tmp_path / "passages.parquet", row_group_size=8)
    return tmp_path / "passages.parquet"


@pytest.fixture(scope="session")
def three_shards(tmp_path_factory: pytest.TempPathFactory, tiny_bloom: Path) -> Path:
    """A folder with the passages of `rows`, their `parts` by three shards, and the parts of `another` run of them."""
    folder = tmp_path_factory.mktemp("shards")
    settings = EmbedSettings(str(tiny_bloom), passage_words=12, part_passages=4)
    for place in range(3):
        embed_inputs([write_rows(folder)], folder / "parts", settings, shard=Shard(place, 3))
    embed_inputs([folder / "passages.jsonl"], folder / "another", replace(settings, batch_tokens=64))
    return folder


@pytest.fixture
def contents() -> Contents:
    """Read the parts and the manifest of a folder; the lists of its shards are left aside."""
    return lambda folder: {path.name: path.read_bytes() for path in folder.iterdir() if "parts" not in path.name}
