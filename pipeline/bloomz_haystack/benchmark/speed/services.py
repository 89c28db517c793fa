"""A store -> HTTP services of the same pipeline, each a process on 127.0.0.1 with a copy of the store: ours, a naive
FastAPI endpoint, and hayhooks where it is installed.

Each asks the same question of the same two models; how they differ is how they run it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import bloomz_haystack
from bloomz_haystack.pipelines import ask_pipeline
from bloomz_haystack.settings import AskSettings
from bloomz_haystack.store_folder import StoreFolder
from haystack_integrations.common import bloomz

OURS, NAIVE, HAYHOOKS = "bloomz serve", "naive FastAPI", "hayhooks"
START_SECONDS = 120  # that a service has to answer its first question
STOP_SECONDS = 30
HAYHOOKS_ENDS = """
inputs:
  query: [embedder.text, ranker.query, reader.query]
outputs:
  documents: ranker.documents
  answers: reader.answers
"""
NAIVE_SERVICE = """
import sys
import uvicorn
from fastapi import FastAPI
from haystack import Pipeline

app, pipeline = FastAPI(), Pipeline.loads(open(sys.argv[1]).read())
pipeline.warm_up()

@app.post("/search")
def search(wanted: dict):
    query = wanted["query"]
    inputs = {"embedder": {"text": query}, "ranker": {"query": query}, "reader": {"query": query}}
    return pipeline.run(inputs, include_outputs_from={"ranker"})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


class RunningService(NamedTuple):
    """A process that answers questions."""

    name: str
    process: int
    port: int
    path: str
    found: Callable[[Any], list[str]]  # its JSON -> texts of the passages, best first

    def connect(self) -> HTTPConnection:
        """Return a connection of one client."""
        return HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)

    def ask(self, connection: HTTPConnection, question: str) -> tuple[int, bytes]:
        """Send a question.

        :param connection: from `connect`.
        :param question: any.
        :returns: status and body.
        """
        body = json.dumps({"query": question, **({"hybrid": False} if self.name == OURS else {})})
        connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()

    def passages(self, question: str) -> list[str]:
        """Return the texts found for a question.

        :param question: any.
        :returns: best first.
        :raises ValueError: if the service refuses.
        """
        connection = self.connect()
        try:
            status, body = self.ask(connection, question)
        finally:
            connection.close()
        if status != 200:
            raise ValueError(f"{self.name} answered {status}: {body.decode(errors='replace')[:200]}")
        return self.found(json.loads(body))


@contextmanager
def running_services(store: Path, folder: Path, hayhooks: Path | None) -> Iterator[list[RunningService]]:
    """Start the services, one after the other, and stop them.

    :param store: of passages without a BM25 index; copied, since a folder serves one process.
    :param folder: empty; holds the copies and the logs.
    :param hayhooks: Python that has hayhooks; None leaves it out.
    :yields: those that answer.
    :raises ValueError: if one does not start.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(start(store, folder)) for start in _starters(hayhooks)]


def _starters(hayhooks: Path | None) -> list[Callable[[Path, Path], Any]]:
    starters: list[Callable[[Path, Path], Any]] = [_ours, _naive]
    if hayhooks is not None:
        starters.append(lambda store, folder: _hayhooks(store, folder, hayhooks))
    return starters


def _ours(store: Path, folder: Path) -> Any:  # noqa: ANN401  # a context manager
    copy, port = _copied(store, folder / "ours"), free_port()
    command = [sys.executable, "-m", "bloomz_haystack", "serve", "--store", str(copy), "--port", str(port)]
    return _started(OURS, command, port, "/v1/search", lambda answer: _texts(answer["passages"]), folder)


def _naive(store: Path, folder: Path) -> Any:  # noqa: ANN401  # a context manager
    yaml, port = folder / "naive.yaml", free_port()
    yaml.write_text(_pipeline_yaml(_copied(store, folder / "naive")), encoding="utf-8")
    command = [sys.executable, "-c", NAIVE_SERVICE, str(yaml), str(port)]
    return _started(NAIVE, command, port, "/search", lambda answer: _texts(answer["ranker"]["documents"]), folder)


def _hayhooks(store: Path, folder: Path, python: Path) -> Any:  # noqa: ANN401  # a context manager
    pipelines, port = folder / "pipelines", free_port()
    pipelines.mkdir()
    text = _pipeline_yaml(_copied(store, folder / "hayhooks")) + HAYHOOKS_ENDS
    (pipelines / "ask.yml").write_text(text, encoding="utf-8")
    run = "from hayhooks.cli import hayhooks_cli; hayhooks_cli()"
    command = [str(python), "-c", run, "run", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--pipelines-dir", str(pipelines)]
    return _started(HAYHOOKS, command, port, "/ask/run", _hayhooks_texts, folder)


def _hayhooks_texts(answer: Any) -> list[str]:  # noqa: ANN401  # JSON
    return _texts(answer["result"]["ranker"]["documents"])


def _texts(documents: list[dict[str, Any]]) -> list[str]:
    return [document["content"] for document in documents]


def _copied(store: Path, copy: Path) -> Path:
    return Path(shutil.copytree(store, copy))


def _pipeline_yaml(store: Path) -> str:
    folder = StoreFolder(store)
    settings = AskSettings(model=folder.retriever(None), hybrid=False)
    return ask_pipeline(store, settings, embedding_dim=folder.check_exists(), progress_bar=False).dumps()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _started(
    name: str, command: list[str], port: int, path: str, found: Callable[[Any], list[str]], folder: Path
) -> Iterator[RunningService]:
    log = folder / f"{path.strip('/').replace('/', '-')}.log"
    sources = [str(Path(package.__path__[0]).parents[up]) for package, up in ((bloomz_haystack, 0), (bloomz, 2))]
    known = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join([*sources, *([known] if known else [])])
    environment = {**os.environ, "PYTHONPATH": paths, "HAYSTACK_TELEMETRY_ENABLED": "False"}
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)  # noqa: S603  # our own
    service = RunningService(name, process.pid, port, path, found)
    try:
        _wait_until_it_answers(service, process, log)
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(service: RunningService, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    reason = "nothing listens"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            service.passages("Est-ce prêt ? Is it ready?")
        except (OSError, HTTPException, ValueError) as error:
            reason = str(error)
            time.sleep(0.1)
        else:
            return
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise ValueError(f"{service.name} does not answer: {' '.join(last) or reason}")
