"""Bulk embedding: shards together are one run bit for bit, a run goes on where it stopped, what is odd is named."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from haystack import Document

from bloomz_haystack import IndexSettings
from bloomz_haystack.cluster.embed import embed_inputs
from bloomz_haystack.cluster.parts import passages_of_table, read_part
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary, index_files
from bloomz_haystack.settings import EmbedSettings
from bloomz_haystack.store_folder import StoreFolder

FRENCH = "La tour Eiffel se trouve à Paris, au bord de la Seine."

if TYPE_CHECKING:
    from tests.cluster.conftest import Contents
    from tests.conftest import MakeBloom


@pytest.fixture
def settings(tiny_bloom: Path) -> EmbedSettings:
    return EmbedSettings(str(tiny_bloom), passage_words=12, part_passages=4)


def passages_in(folder: Path) -> dict[str, tuple[Document, np.ndarray]]:
    """Return passage and vector by id; no id twice."""
    found = []
    for path in sorted(folder.glob("*.parquet")):
        held = passages_of_table(read_part(path)[1])
        found += [(passage.id, (passage, vector)) for passage, vector in zip(*held, strict=True)]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("count", [3, 8])
def test_shards_together_are_one_run(
    texts: Path, rows: Path, table: Path, settings: EmbedSettings, tmp_path: Path, contents: "Contents", count: int
) -> None:
    inputs = [texts, rows, table]
    whole = embed_inputs(inputs, tmp_path / "whole", settings)
    shards = [embed_inputs(inputs, tmp_path / "shared", settings, shard=Shard(i, count)) for i in range(count)]
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")
    assert (sum(shard.passages for shard in shards), sum(shard.parts for shard in shards)) == (
        whole.passages,
        whole.parts,
    )
    assert max(shard.passages for shard in shards) <= whole.passages / min(count, 2)
    # Negative control: a letter more is another part, and another manifest.
    rows.write_text(rows.read_text().replace('"0 The', '"0 the'))
    embed_inputs(inputs, tmp_path / "other", settings)
    changed = {
        name for name, data in contents(tmp_path / "other").items() if contents(tmp_path / "whole")[name] != data
    }
    assert "manifest.json" in changed
    assert len([name for name, _ in passages_in(tmp_path / "other").items() if name == "p0"]) >= 1


def test_the_passages_are_those_of_bloomz_index(texts: Path, settings: EmbedSettings, tmp_path: Path) -> None:
    embed_inputs([texts], tmp_path / "parts", settings)
    index_files([texts], tmp_path / "store", IndexSettings(settings.model, passage_words=12))
    with StoreFolder(tmp_path / "store").opened() as store:
        stored = {document.id: document for document in store.filter_documents()}
    held = passages_in(tmp_path / "parts")
    assert len(held) > 30
    assert {key: (passage.content, passage.meta) for key, (passage, _) in held.items()} == {
        key: (document.content, document.meta) for key, document in stored.items()
    }
    for key, (_, vector) in held.items():
        np.testing.assert_allclose(vector, np.asarray(stored[key].embedding), atol=1e-6)


class StopAfter(IndexProgress):
    """Stops a run after some blocks, as Ctrl-C does."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_goes_on(
    texts: Path, rows: Path, settings: EmbedSettings, tmp_path: Path, contents: "Contents"
) -> None:
    whole = embed_inputs([texts, rows], tmp_path / "whole", settings)
    for blocks in (3, 8):
        with pytest.raises(KeyboardInterrupt):
            embed_inputs([texts, rows], tmp_path / "stopped", settings, progress=StopAfter(blocks))
    (tmp_path / "stopped/part-000001-0000.parquet.0123456789ab.part").write_bytes(b"PAR1")  # what kill -9 leaves
    again = embed_inputs([texts, rows], tmp_path / "stopped", settings)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert (again.passages, again.notes) == (whole.passages, [])
    assert again.unchanged == whole.passages - again.embedded >= 7 * 3
    assert embed_inputs([texts, rows], tmp_path / "stopped", settings).embedded == 0


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def strange(path: Path) -> None:
    path.write_text("not a part")


def of_another_run(path: Path) -> None:
    shutil.copy(path.parents[1] / "another" / path.name, path)


def misplaced(path: Path) -> None:
    shutil.copy(path.with_name("part-000002-0000.parquet"), path)


@pytest.mark.parametrize("harm", [torn, one_bit, strange, of_another_run, misplaced])
def test_what_is_torn_or_foreign_is_named_and_made_again(
    three_shards: Path, settings: EmbedSettings, tmp_path: Path, contents: "Contents", harm: Callable[[Path], None]
) -> None:
    shutil.copytree(three_shards, tmp_path, dirs_exist_ok=True)
    rows = tmp_path / "passages.jsonl"
    before = contents(tmp_path / "parts")
    harm(part := tmp_path / "parts/part-000001-0000.parquet")
    (tmp_path / "parts/letter.txt").write_text("")
    again = embed_inputs([rows], tmp_path / "parts", settings)
    assert again.embedded == 4
    first, second = (str(note) for note in again.notes)
    assert first == f"{tmp_path / 'parts/letter.txt'}: not of this run: left alone"
    assert second.startswith(f"{part}: ")
    assert second.endswith(": embedded again")
    assert contents(tmp_path / "parts") == {**before, "letter.txt": b""}


def test_other_vectors_are_refused(
    texts: Path, rows: Path, settings: EmbedSettings, tmp_path: Path, make_bloom: "MakeBloom"
) -> None:
    parts, other = tmp_path / "parts", make_bloom(seed=7)
    embed_inputs([texts, rows], parts, settings)
    for changed, said in (
        (replace(settings, passage_words=20), "was begun with passage-words 12, but got 20: give the same again"),
        (replace(settings, precision="int8"), "was begun with precision None, but got int8"),
        (replace(settings, batch_tokens=64), "was begun with batch-tokens 2048, but got 64"),
        (replace(settings, part_passages=5), "was begun with part-passages 4, but got 5"),
        (replace(settings, model=str(other)), rf"of the model {settings.model} \(\w+\), but got {other} \(\w+\)"),
    ):
        with pytest.raises(ValueError, match=said):
            embed_inputs([texts, rows], parts, changed)
    with pytest.raises(ValueError, match="was begun with 2 inputs, but got 1"):
        embed_inputs([texts], parts, settings)
    # A copy of the model elsewhere is the same model.
    copy = shutil.copytree(settings.model, tmp_path / "copy")
    assert embed_inputs([texts, rows], parts, replace(settings, model=str(copy))).embedded == 0
    file = texts / "file-0.md"
    file.write_text(file.read_text().replace("Seine", "Loire"))  # as long as before
    with pytest.raises(ValueError, match=r"file-0\.md has changed since part-000000-0000\.parquet was made of it"):
        embed_inputs([texts, rows], parts, settings)
    file.write_text("Autre chose.")
    with pytest.raises(ValueError, match=r"begun with the input .*texts \(7 files, .*but got .*texts \(7 files, "):
        embed_inputs([texts, rows], parts, settings)


def test_the_parts_of_a_store_of_something_else_are_refused(rows: Path, settings: EmbedSettings) -> None:
    with pytest.raises(ValueError, match=r"holds other files \(passages.jsonl\) and no manifest.json"):
        embed_inputs([rows], rows.parent, settings)


def test_a_row_that_is_no_passage_is_named_and_skipped(settings: EmbedSettings, tmp_path: Path) -> None:
    good = '{"content": "Big Ben est à Londres.", "id": 7}'
    bad = ['{"content": "  "}', "{not json}", '{"content": 5}', '{"content": "a", "id": [1]}', '["a"]', '"\\ud800"']
    bad += ['{"content": "\\ud800"}', '{"content": "a", "meta": [1]}', '{"content": "a", "id": "\\ud800"}']
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join([good, "", *bad]).encode() + b"\n\xff\xff\n")
    summary = embed_inputs([path], tmp_path / "parts", settings)
    assert list(passages_in(tmp_path / "parts")) == ["7"]
    assert [(problem.file, problem.line) for problem in summary.problems] == [(str(path), n) for n in range(3, 13)]
    assert "the text is empty" in summary.problems[0].reason
    # They are named again, although nothing is embedded again.
    assert embed_inputs([path], tmp_path / "parts", settings).problems == summary.problems


def test_without_pyarrow_it_says_how_to_install_it(
    rows: Path, settings: EmbedSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "bloomz-haystack\[bulk\]"'):
        embed_inputs([rows], tmp_path / "parts", settings)


# Killed at any moment after five parts, by a thread of its own: another process could be late.
KILLED = """
import os, sys, threading, time
from pathlib import Path
from bloomz_haystack.__main__ import main

def kill():
    out = Path(sys.argv[sys.argv.index("--out") + 1])
    while len(list(out.glob("*.parquet"))) < 5:
        time.sleep(0.002)
    os.kill(os.getpid(), 9)

threading.Thread(target=kill, daemon=True).start()
main()
"""


@pytest.mark.slow
def test_what_kill_9_leaves_is_gone_on_with(
    rows: Path, settings: EmbedSettings, tmp_path: Path, contents: "Contents"
) -> None:
    """Killed in the middle; then the same bytes as a run that nobody stopped."""
    rows.write_text("".join(f'{{"content": "passage numéro {number} {FRENCH}"}}\n' for number in range(400)))
    embed_inputs([rows], tmp_path / "whole", settings)
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "bloomz_haystack",
        "embed",
        str(rows),
        "--out",
        str(out),
        "--model",
        settings.model,
    ]
    command += ["--part-passages", "4", "--passage-words", "12", "--json"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command[3:]], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "parts.json").exists()
    there = len(list(out.glob("*.parquet")))
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    summary = json.loads(result.stdout)
    assert (summary["passages"], summary["unchanged"]) == (400, 4 * there)
    assert contents(out) == contents(tmp_path / "whole")
    assert (out / "parts.json").read_bytes() == (tmp_path / "whole/parts.json").read_bytes()
