"""The wrapper of docs/examples/hayhooks, under hayhooks: HTTP and chat.

BLOOMZ_HAYHOOKS_PYTHON can name a Python that has it.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bloomz_haystack import Answerer
from bloomz_haystack.indexing.index import index_files

ROOT = Path(__file__).parents[2]
WRAPPERS = ROOT / "docs/examples/hayhooks"
PYTHON = os.environ.get("BLOOMZ_HAYHOOKS_PYTHON") or (sys.executable if importlib.util.find_spec("hayhooks") else None)
QUESTION = "Combien d'heures de sommeil faut-il à un adulte ?"
SECONDS = 600  # an end for what hangs, also on a slow machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="hayhooks is not installed; BLOOMZ_HAYHOOKS_PYTHON can name a Python"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("hayhooks") / "store"
    index_files([ROOT / "pipeline/bloomz_haystack/examples"], store)
    return store


@pytest.fixture(scope="module")
def expected(store: Path) -> dict[str, Any]:
    with Answerer(store) as answerer:
        return answerer.ask(QUESTION, top_k=2).as_json()


@pytest.fixture(scope="module")
def address(store: Path, expected: dict[str, Any], reserve_port: Callable[[], int]) -> Iterator[str]:
    """The wrapper, served; after `expected`, since a folder serves one process."""
    port = reserve_port()
    run = "from hayhooks.cli import hayhooks_cli; hayhooks_cli()"
    command = [str(PYTHON), "-c", run, "run", "--host", "127.0.0.1", "--port", str(port)]
    paths = os.pathsep.join([str(ROOT / "components"), str(ROOT / "pipeline")])
    environment = {**os.environ, "PYTHONPATH": paths, "BLOOMZ_STORE": str(store)}
    log = store.parent / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "--pipelines-dir", str(WRAPPERS)], stdout=output, stderr=output, env=environment
        )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{address}/status", timeout=SECONDS).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(SECONDS)


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def test_it_finds_what_the_answerer_finds(address: str, expected: dict[str, Any]) -> None:
    found = post(f"{address}/bloomz/run", {"query": QUESTION, "top_k": 2})["result"]
    assert [passage["id"] for passage in found["documents"]] == [passage["id"] for passage in expected["documents"]]
    assert [passage["score"] for passage in found["documents"]] == pytest.approx(
        [passage["score"] for passage in expected["documents"]], abs=1e-5
    )
    assert post(f"{address}/bloomz/run", {"query": QUESTION, "threshold": 1.0})["result"]["documents"] == []


def test_it_answers_in_a_chat(address: str, expected: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    answer = post(f"{address}/v1/chat/completions", {"model": "bloomz", "messages": messages})
    text = answer["choices"][0]["message"]["content"]
    assert text.startswith(f"[1] {expected['documents'][0]['content']}")
    assert "\n\n[2] " in text
