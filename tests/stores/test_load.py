"""`bloomz load` into PostgreSQL: the table that `bloomz index` makes, words and model included; no model is loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack.cli import main as cli
from bloomz_haystack.cluster.embed import embed_inputs
from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.settings import EmbedSettings
from haystack_integrations.common.bloomz.component import BloomzComponent

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn, Postgres

pytestmark = pytest.mark.slow
EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"
NAMES = {"table_name": "loaded", "keyword_index_name": "loaded_k", "hnsw_index_name": "loaded_h"}
QUESTIONS = ("Quand a eu lieu le grand incendie de Londres ?", "How long is a French passport valid?")


def rows_of(connection: psycopg.Connection[Any], table: str) -> list[tuple[Any, ...]]:
    """Return all that is kept of each passage but its vector, then the model."""
    columns = "id, content, meta, blob_data, point, words, weights::text, vector_dims(embedding)"
    names = {"columns": SQL(columns), "table": Identifier(table), "words": Identifier(f"{table}_words")}
    found = connection.execute(
        SQL("SELECT {columns} FROM {table} p JOIN {words} w USING (id) ORDER BY 1").format(**names)
    )
    info = connection.execute("SELECT obj_description(to_regclass(%s))", (f"{table}_words",)).fetchone()
    assert info is not None
    return [*found.fetchall(), json.loads(info[0])]


def largest_difference(connection: psycopg.Connection[Any]) -> float:
    statement = "SELECT max(a.embedding <-> b.embedding) FROM indexed a JOIN loaded b ON a.id = b.id"
    return float(connection.execute(statement).fetchone()[0])  # type: ignore[index]


def test_a_loaded_table_is_an_indexed_one(
    connected: "Postgres", fill_in: "FillIn", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name: value.replace("loaded", "indexed") for name, value in NAMES.items()}
    index_files([EXAMPLES], tmp_path / "list", pipeline=fill_in("index-pgvector.yaml", **names))
    embed_inputs([EXAMPLES], tmp_path / "parts", EmbedSettings(part_passages=10))
    pipeline = fill_in("index-pgvector.yaml", **NAMES)
    with monkeypatch.context() as patched:
        patched.setattr(BloomzComponent, "warm_up", lambda self: pytest.fail("a model was loaded"))
        patched.setattr(BloomzComponent, "_warm_engine", lambda self: pytest.fail("a model was loaded"))
        for written in (32, 0):
            result = CliRunner().invoke(
                cli.app, ["load", str(tmp_path / "parts"), "--pipeline", str(pipeline), "--json"]
            )
            assert (result.exit_code, result.stderr) == (0, "")
            assert json.loads(result.stdout) == {
                **{"read": 32, "written": written, "already_there": 32 - written, "in_source": 32, "in_target": 32}
            }
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        assert rows_of(connection, "loaded") == rows_of(connection, "indexed")
        assert largest_difference(connection) < 1e-6
        # The list of files came along: nothing is embedded again.
        again = index_files([EXAMPLES], pipeline.with_suffix(""), pipeline=pipeline)
        assert (again.embedded, again.unchanged, again.removed) == (0, 32, 0)
        for question in QUESTIONS:
            answers = [
                CliRunner().invoke(
                    cli.app, ["ask", question, "--pipeline", str(fill_in("ask-pgvector.yaml", **table)), "--json"]
                )
                for table in (NAMES, names)
            ]
            first, second = ([one["id"] for one in json.loads(answer.stdout)["documents"]] for answer in answers)
            assert first == second
            assert len(first) == 5
        connection.execute("DROP TABLE loaded_words, loaded, indexed_words, indexed")


def test_a_table_for_another_model_is_refused(
    connected: "Postgres", fill_in: "FillIn", tmp_path: Path, tiny_bloom: Path
) -> None:
    embed_inputs([EXAMPLES], tmp_path / "parts", EmbedSettings(str(tiny_bloom)))
    result = CliRunner().invoke(
        cli.app, ["load", str(tmp_path / "parts"), "--pipeline", str(fill_in("index-pgvector.yaml", **NAMES))]
    )
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "the vectors have 24 numbers, but the store is for 576" in result.stderr
    with psycopg.connect(connected.address(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS loaded_words, loaded")
