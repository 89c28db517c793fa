"""`bloomz serve` as a process: one line and exit code 2 for what is wrong at the start, SIGTERM, jobs that go on."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.settings import IndexSettings

pytestmark = pytest.mark.slow  # a service of its own, its threads, or hundreds of requests

EXAMPLES = Path(__file__).parents[2] / "pipeline/bloomz_haystack/examples"
SECONDS = 600  # an end for what hangs, also on a slow machine
# Without the end that a service sets to requests under way when it stops, which a slow machine would reach.
SERVE = "from bloomz_haystack.cli import main, serve; serve.GRACE_SECONDS = None; main.main()"
SECRET = "Combien d'heures de sommeil faut-il à Zénobie ?"


class Process:
    """A `bloomz serve`, its address, and the lines of its log."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-c", SERVE, "serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "BLOOMZ_TOKEN": "", **environment}
        )
        assert self.process.stderr is not None
        self.lines = [json.loads(self.process.stderr.readline())]
        self.client = httpx.Client(base_url=self.lines[0]["address"], timeout=SECONDS)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines += [json.loads(line) for line in self.process.stderr]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self.client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self._reader.join()
        return code


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    """Run a service, and kill it whatever happens."""
    service = Process(*arguments)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.process.kill()
        service.process.wait()
        service.client.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two files."""
    folder = tmp_path / "store"
    index_files([EXAMPLES / "sleep.txt", EXAMPLES / "sommeil.txt"], folder, IndexSettings())
    return folder


def refused(*arguments: str, **environment: str) -> str:
    """Run a service that does not start, and return its one line."""
    command = [sys.executable, "-m", "bloomz_haystack", "serve", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env={**os.environ, **environment})
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_what_is_wrong_at_the_start_is_one_line(store: Path, tmp_path: Path) -> None:
    given = ("--store", str(store))
    assert "can be reached by other machines: give a token" in refused(*given, "--host", "0.0.0.0")
    assert "no store at" in refused("--store", str(tmp_path / "none"))
    assert "one word of printable ASCII" in refused(*given, BLOOMZ_TOKEN="two words")
    assert "No such file" in refused(*given, "--token-file", str(tmp_path / "none"))
    assert "a generator needs both" in refused(*given, "--generator", "http://127.0.0.1:1/v1")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"cannot listen on 127.0.0.1 port {port}: address already in use" in refused(*given, "--port", port)


def test_who_reads_the_address_may_connect_before_the_server_runs(store: Path) -> None:
    run = "def run(server, sockets): print(socket.create_connection(sockets[0].getsockname()).getpeername()[1])"
    code = f"import socket, uvicorn\n{run}\nuvicorn.Server.run = run\n{SERVE}"
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--store", str(store)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert json.loads(ended.stderr.splitlines()[0])["address"].endswith(f":{ended.stdout.strip()}")
    assert ended.returncode == 0


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_service(store: Path) -> None:
    command = [sys.executable, "-m", "bloomz_haystack", "serve", "--port", "0", "--store", str(store)]
    ended = subprocess.run(
        [*command, "--ranker", "tiny-fr-en-retriever"], capture_output=True, text=True, timeout=SECONDS
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("bloomz: ")


def test_sigterm_ends_what_runs_and_closes_the_store(store: Path) -> None:
    with process("--store", str(store)) as service:
        assert "is open in another process" in refused("--store", str(store), "--port", "0", "--wait", "0")
        assert service.client.post("/v1/search", json={"query": SECRET}).status_code == 200
        answers: list[httpx.Response] = []
        slow = {"query": SECRET, "documents": ["Elle dort huit heures par nuit. " * 20] * 100}
        asking = threading.Thread(target=lambda: answers.append(service.client.post("/v1/rerank", json=slow)))
        asking.start()
        while not answers and "bloomz_in_flight 1.0" not in service.client.get("/metrics").text:
            time.sleep(0.01)
        assert service.stop() == 0
        asking.join()
        assert answers[0].status_code == 200
        assert len(answers[0].json()["results"]) == 100
    log = json.dumps(service.lines, ensure_ascii=False)
    assert "Zénobie" not in log
    requests = [
        (line["method"], line["path"], line["status"]) for line in service.lines if line["message"] == "request"
    ]
    assert ("POST", "/v1/rerank", 200) in requests
    assert [line["message"] for line in service.lines if line["level"] != "info"] == []
    index_files([EXAMPLES / "bank-card.md"], store, IndexSettings(wait=0))  # it is free again


@pytest.mark.slow
def test_a_job_that_was_accepted_is_done_after_a_restart(store: Path) -> None:
    lines = [
        json.dumps({"content": f"Passage {line} about the hive, its queen and its honey."}) for line in range(1000)
    ]
    files = [("files", ("hive.jsonl", "\n".join(lines).encode())), ("files", ("bees.txt", b"Bees fly."))]
    with process("--store", str(store), "--log-questions") as service:
        service.client.post("/v1/search", json={"query": SECRET})
        job = service.client.post("/v1/documents", files=files).json()["job"]
        assert service.stop() == 0
    assert any(line.get("question") == SECRET for line in service.lines)
    with process("--store", str(store)) as service:
        done: dict[str, Any] = {"state": "queued"}
        deadline = time.monotonic() + SECONDS
        while done["state"] in ("queued", "running"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
            done = service.client.get(f"/v1/jobs/{job['id']}").json()
        assert {file["name"]: file["passages"] for file in done["files"]} == {"hive.jsonl": 1000, "bees.txt": 1}
        assert service.client.get("/v1/info").json()["passages"] == 1003
        assert service.stop() == 0
