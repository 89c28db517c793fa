"""The YAML files for stores on a server: loaded by plain Haystack, without a server and without its address."""

from pathlib import Path

import pytest
import yaml
from haystack import Pipeline

import bloomz_haystack

FOLDER = Path(bloomz_haystack.__file__).parent
TWINS = {"pgvector": "ask-hybrid.yaml", "qdrant": "ask.yaml"}  # the same pipeline over Qdrant Edge
STORES = list(TWINS)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("verb", ["index", "ask"])
def test_haystack_loads_the_file(verb: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_CONN_STR", raising=False)
    loaded = Pipeline.loads((FOLDER / f"{verb}-{store}.yaml").read_text(encoding="utf-8"))
    assert Pipeline.loads(loaded.dumps()) == loaded


@pytest.mark.parametrize("store", STORES)
def test_both_files_name_the_same_store_and_models_as_those_of_edge(store: str) -> None:
    index, ask, edge = (
        yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
        for name in (f"index-{store}.yaml", f"ask-{store}.yaml", TWINS[store])
    )
    writer, retriever = index["components"]["writer"], ask["components"]["retriever"]
    assert writer["init_parameters"]["document_store"] == retriever["init_parameters"]["document_store"]
    for name in ("embedder", "ranker"):
        assert ask["components"][name] == edge["components"][name]
    assert (ask["connections"], ask["inputs"]) == (edge["connections"], edge["inputs"])
