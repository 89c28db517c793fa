"""`bloomz copy`: from Qdrant Edge to PostgreSQL, to Qdrant and back, without a model; cut short, it goes on."""

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack import Answerer, IndexSettings
from bloomz_haystack.cli import main as cli
from bloomz_haystack.cluster import store_copy
from bloomz_haystack.indexing.index import index_files
from haystack_integrations.common.bloomz.component import BloomzComponent
from haystack_integrations.document_stores.bloomz_pgvector import BloomzPgvectorDocumentStore

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"
QUESTION = "Quand a eu lieu le grand incendie de Londres ?"
NAMES: dict[str, Any] = {"table_name": "copied", "keyword_index_name": "copied_k", "hnsw_index_name": "copied_h"}


def copied(source: Path, target: Path) -> dict[str, int]:
    result = CliRunner().invoke(cli.app, ["copy", str(source), str(target), "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def figures(answerer: Answerer) -> list[tuple[str, float, dict[str, Any]]]:
    with answerer:
        return [(passage.id, round(passage.score, 5), passage.meta) for passage in answerer.ask(QUESTION).passages]


@pytest.fixture
def edge(tmp_path: Path) -> Path:
    index_files([EXAMPLES], tmp_path / "edge", IndexSettings(hybrid=True))
    return tmp_path / "edge"


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
def test_there_and_back(
    edge: Path, connected: "Postgres", fill_in: "FillIn", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = figures(Answerer(edge))
    files = [
        fill_in("index-hybrid.yaml", path=str(edge)),
        fill_in("index-pgvector.yaml", **NAMES),
        fill_in("index-qdrant.yaml", url=None, api_key=None, path=str(tmp_path / "qdrant")),
        fill_in("ask-hybrid.yaml", path=str(tmp_path / "back")),
    ]
    monkeypatch.setattr(store_copy, "BATCH", 7)
    with monkeypatch.context() as patched:
        patched.setattr(BloomzComponent, "warm_up", lambda self: pytest.fail("a model was loaded"))
        for source, target in pairwise(files):
            summary = copied(source, target)
            assert summary["written"] == summary["read"] == summary["in_source"] == summary["in_target"] > 20
        again = copied(files[0], files[1])
        assert (again["written"], again["already_there"]) == (0, again["read"])
    assert figures(Answerer(pipeline=fill_in("ask-pgvector.yaml", **NAMES))) == expected
    assert figures(Answerer(tmp_path / "back")) == expected
    # What Edge knew of its model came along, through PostgreSQL, where it is checked.
    table = BloomzPgvectorDocumentStore(embedding_dimension=576, **NAMES)
    assert table.read_info()["model"] == "tiny-fr-en-retriever"
    table.delete_table()
    table.close()


def test_a_copy_that_was_cut_short_goes_on(
    edge: Path, connected: "Postgres", fill_in: "FillIn", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_copy, "BATCH", 7)
    source, target = fill_in("index-hybrid.yaml", path=str(edge)), fill_in("index-pgvector.yaml", **NAMES)

    def stop(summary: store_copy.CopySummary) -> None:
        if summary.written == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_copy.copy_passages(source, target, stop)
    summary = copied(source, target)
    assert (summary["already_there"], summary["written"]) == (14, summary["read"] - 14)
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        counts = connection.execute("SELECT count(*), count(DISTINCT id), count(embedding) FROM copied").fetchone()
        assert counts == (summary["read"],) * 3
        connection.execute("DROP TABLE copied_words, copied")


@pytest.mark.parametrize("same", [True, False], ids=["same store", "another model"])
def test_what_cannot_be_copied_is_one_line(edge: Path, fill_in: "FillIn", tmp_path: Path, same: bool) -> None:
    source = fill_in("index-hybrid.yaml", path=str(edge))
    data = yaml.safe_load(source.read_text())
    if not same:
        data["components"]["embedder"]["init_parameters"]["model"] = "cmarkea/bloomz-560m-retriever-v2"
        data["components"]["writer"]["init_parameters"]["document_store"]["init_parameters"]["path"] = str(
            tmp_path / "x"
        )
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(data))
    result = CliRunner().invoke(cli.app, ["copy", str(source), str(tmp_path / "other.yaml")])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert ("the same store" if same else "made by the model tiny-fr-en-retriever") in result.stderr
    assert not (tmp_path / "x").exists()
