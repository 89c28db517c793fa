"""Loading parts: a store becomes what indexing would have made of it, without a model; what is odd is one line."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from haystack import Document
from typer.testing import CliRunner, Result

from bloomz_haystack import IndexSettings
from bloomz_haystack.cli import main as cli
from bloomz_haystack.cluster import load
from bloomz_haystack.cluster.embed import embed_inputs
from bloomz_haystack.cluster.load import load_parts
from bloomz_haystack.cluster.store_copy import CopySummary
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.settings import EmbedSettings
from bloomz_haystack.store_folder import StoreFolder
from haystack_integrations.common.bloomz.component import BloomzComponent

if TYPE_CHECKING:
    from tests.conftest import MakeBloom


@pytest.fixture
def settings(tiny_bloom: Path, tmp_path: Path) -> EmbedSettings:
    model = shutil.copytree(tiny_bloom, tmp_path / "model")
    return EmbedSettings(str(model), passage_words=12, part_passages=4)


def bloomz(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def documents_of(store: Path) -> dict[str, Document]:
    with StoreFolder(store).opened() as opened:
        return {document.id: document for document in opened.filter_documents()}


def found_by_words(store: Path, question: str, dimension: int) -> list[tuple[str, float]]:
    with StoreFolder(store).opened() as opened:
        (found,) = opened.query_hybrid_batch([question], np.ones((1, dimension)), weights=[0, 1], top_k=20)
        return [(document.id, document.score or 0.0) for document in found]


def test_a_loaded_store_is_an_indexed_one(texts: Path, settings: EmbedSettings, tmp_path: Path) -> None:
    indexed, loaded = tmp_path / "indexed", tmp_path / "loaded"
    index_files([texts], indexed, IndexSettings(settings.model, passage_words=12, hybrid=True))
    for place in range(2):
        embed_inputs([texts], tmp_path / "parts", settings, shard=Shard(place, 2))
    shutil.rmtree(settings.model)  # no model is loaded
    result = bloomz("load", tmp_path / "parts", "--store", loaded, "--hybrid", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = documents_of(indexed), documents_of(loaded)
    assert json.loads(result.stdout)["written"] == len(first) > 30
    assert {key: (document.content, document.meta) for key, document in first.items()} == {
        key: (document.content, document.meta) for key, document in second.items()
    }
    for key, document in first.items():
        np.testing.assert_allclose(np.asarray(second[key].embedding), np.asarray(document.embedding), atol=1e-6)
    asked = found_by_words(loaded, "Quand la tour de Paris fut-elle construite ?", 24)
    assert asked == found_by_words(indexed, "Quand la tour de Paris fut-elle construite ?", 24)
    assert len(asked) == 20
    assert StoreFolder(loaded).info == StoreFolder(indexed).info
    assert sorted((loaded / "files.jsonl").read_text().splitlines()) == sorted(
        (indexed / "files.jsonl").read_text().splitlines()
    )
    # Indexing finds its own list of files, and everything up to date: the model, which is gone, is not asked for.
    again = index_files([texts], loaded, IndexSettings(passage_words=12))
    assert (again.embedded, again.unchanged, again.removed) == (0, len(first), 0)


def test_a_load_that_was_cut_short_goes_on(
    texts: Path, rows: Path, settings: EmbedSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_inputs([texts], tmp_path / "one", settings)
    rows.write_text(rows.read_text() + rows.read_text().splitlines()[3] + "\n")  # the same row twice
    embed_inputs([rows], tmp_path / "two", settings)
    monkeypatch.setattr(BloomzComponent, "warm_up", lambda self: pytest.fail("a model was loaded"))
    monkeypatch.setattr(load, "BATCH_PASSAGES", 3)

    def stop(summary: CopySummary) -> None:
        if summary.written > 10:
            raise KeyboardInterrupt

    folders, store = [tmp_path / "one", tmp_path / "two"], tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        load_parts(folders, store, advanced=stop)
    summary = load_parts(folders, store)
    assert summary.already_there == 11 + 1 or summary.already_there == 12 + 1
    assert summary.read == summary.in_source == summary.written + summary.already_there
    assert len(documents_of(store)) == summary.in_target == summary.read - 1
    assert documents_of(store)["p3"].meta == {"page": 3}
    assert load_parts(folders, store).written == 0


def lose_a_shard(parts: Path) -> None:
    (parts / "parts-1-of-3.json").unlink()


def lose_a_part(parts: Path) -> None:
    (parts / "part-000001-0000.parquet").unlink()


def tear(parts: Path) -> None:
    path = parts / "part-000001-0000.parquet"
    path.write_bytes(path.read_bytes()[:-9])


def exchange(parts: Path) -> None:
    shutil.copy(parts / "part-000002-0000.parquet", parts / "part-000001-0000.parquet")


def lose_the_manifest(parts: Path) -> None:
    (parts / "manifest.json").unlink()


def break_the_manifest(parts: Path) -> None:
    (parts / "manifest.json").write_text('{"model": "a"}')


def take_over_a_list(parts: Path) -> None:
    path = parts / "parts-0-of-3.json"
    path.write_text(path.read_text().replace('"run": "', '"run": "0'))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose_a_shard, "parts is not complete: run the same bloomz embed again with --shard 1/3"),
        (lose_a_part, "part-000001-0000.parquet is missing: run the same bloomz embed again"),
        (tear, "part-000001-0000.parquet is torn, or no part of bloomz embed"),
        (exchange, "part-000001-0000.parquet is not as bloomz embed wrote it"),
        (lose_the_manifest, "parts holds no manifest.json: make it with: bloomz embed"),
        (break_the_manifest, "manifest.json is damaged, or of another version"),
        (take_over_a_list, "parts-0-of-3.json is of another run than manifest.json"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    three_shards: Path, tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    shutil.copytree(three_shards / "parts", tmp_path / "parts")
    harm(tmp_path / "parts")
    result = bloomz("load", tmp_path / "parts", "--store", tmp_path / "store")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert said in result.stderr


def test_vectors_of_another_model_are_refused(
    rows: Path, settings: EmbedSettings, tmp_path: Path, make_bloom: "MakeBloom"
) -> None:
    other = str(make_bloom(seed=9))
    embed_inputs([rows], tmp_path / "parts", settings)
    embed_inputs([rows], tmp_path / "others", replace(settings, model=other))
    load_parts([tmp_path / "parts"], tmp_path / "store")
    for folders in (["others"], ["parts", "others"]):
        result = bloomz("load", *(tmp_path / name for name in folders), "--store", tmp_path / "store")
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert settings.model in result.stderr
        assert other in result.stderr
    assert len(documents_of(tmp_path / "store")) == 20


def test_the_command_line(rows: Path, settings: EmbedSettings, tmp_path: Path) -> None:
    rows.write_text(rows.read_text() + "{}\n")
    common = ("embed", rows, "--out", tmp_path / "parts", "--model", settings.model, "--part-passages", 4)
    result = bloomz(*common, "--shard", "0/2", "--json")
    values = json.loads(result.stdout)
    assert (result.exit_code, values["embedded"], values["parts"], values["shard"]) == (0, 12, 3, "0/2")
    result = bloomz(*common, "--shard", "1/2")
    assert result.exit_code == 1  # a row was skipped
    assert "8 passages in 3 parts: 8 embedded, 0 there already" in result.stdout
    assert f'{rows}:21: expected a text under "content"' in result.stderr
    result = bloomz(*common, "--shard", "2/2")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "must be I/N" in result.stderr
    assert bloomz(*common, "--device", "cuda:9").exit_code == 2
    assert bloomz("load", tmp_path / "parts").exit_code == 2
    result = bloomz("load", tmp_path / "parts", "--store", tmp_path / "store")
    assert result.stdout == "20 passages read: 20 written, 0 there already\n20 in the store\n"
