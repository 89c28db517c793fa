"""Qdrant's YAML files over the client's own local mode, in place of a server, which no package brings."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack import Answerer
from bloomz_haystack.cli import main as cli
from bloomz_haystack.indexing.index import index_files

if TYPE_CHECKING:
    from tests.stores.conftest import FillIn

EXAMPLES = Path(bloomz_haystack.__file__).parent / "examples"
QUESTIONS = ["Quand a eu lieu le grand incendie de Londres ?", "How long is a French passport valid?"]


def bloomz(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
def test_ranked_answers_are_those_of_edge(fill_in: "FillIn", tmp_path: Path) -> None:
    local = {"url": None, "path": str(tmp_path / "qdrant"), "api_key": None}
    pipeline = fill_in("index-qdrant.yaml", **local)
    code, out, _ = bloomz("index", EXAMPLES, "--pipeline", pipeline, "--store", tmp_path / "list", "--json")
    first = json.loads(out)
    assert (code, first["embedded"]) == (0, first["passages"])
    assert (tmp_path / "list" / "files.jsonl").exists()
    again = json.loads(bloomz("index", EXAMPLES, "--pipeline", pipeline, "--store", tmp_path / "list", "--json")[1])
    assert (again["embedded"], again["unchanged"]) == (0, first["passages"])

    index_files([EXAMPLES], tmp_path / "edge")
    english = {"field": "meta.file_path", "operator": "==", "value": "home-insurance.md"}
    with (
        Answerer(tmp_path / "edge") as edge,
        Answerer(pipeline=fill_in("ask-qdrant.yaml", **local)) as qdrant,
    ):
        for question, filters in ((QUESTIONS[0], None), (QUESTIONS[1], None), (QUESTIONS[1], english)):
            expected = edge.ask(question, filters=filters).passages
            found = qdrant.ask(question, filters=filters).passages
            assert expected
            assert [passage.id for passage in found] == [passage.id for passage in expected]
            assert [passage.score for passage in found] == pytest.approx([p.score for p in expected], abs=1e-5)


@pytest.mark.slow
def test_no_server_is_one_line(fill_in: "FillIn") -> None:
    pipeline = fill_in("ask-qdrant.yaml", url="http://127.0.0.1:1")
    code, out, err = bloomz("ask", QUESTIONS[0], "--pipeline", pipeline)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "refused" in err
