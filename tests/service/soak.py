"""Mixed load on a `bloomz serve` for a while, every answer checked: `python tests/service/soak.py 600`.

Searches, reranks and embeddings are compared with what they were when nothing else ran; files are indexed, found,
deleted and looked for again; broken requests must be refused with one line; clients hang up. What the process holds
(memory, file descriptors, threads) is read once it is warm and at the end.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import httpx

from bloomz_haystack.indexing.index import index_files

EXAMPLES = Path(__file__).parents[2] / "pipeline/bloomz_haystack/examples"
QUESTIONS = [
    "Combien d'heures de sommeil faut-il à un adulte ?",
    "How many hours of sleep does an adult need?",
    "Que faire si la banque refuse ma carte ?",
    "What if my card is refused?",
    "Le train pollue-t-il moins que l'avion ?",
    "Is the train cleaner than the plane?",
]
PASSAGES = ["La Seine coule à Paris.", "The Thames flows through London.", "Un adulte dort huit heures.", "42"]
KINDS = ("search", "rerank", "embed", "index", "broken", "hung up")
ROUNDS = 5  # of each kind before the process is looked at: a slow machine needs longer to warm up
BUSY = (429, 503)
SECONDS = 600  # that an answer may take on a busy machine
TOLERANCE = 1e-4


class Held(NamedTuple):
    """What a process holds."""

    resident: int  # bytes
    files: int
    threads: int


class Soaked(NamedTuple):
    """What came of it."""

    answers: dict[str, int]
    refused: int  # 429 and 503
    wrong: list[str]
    errors: list[str]
    early: Held
    late: Held
    code: int  # exit code after SIGTERM


def held(process: int) -> Held:
    """Read what a process holds (Linux)."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    files = len(os.listdir(f"/proc/{process}/fd"))
    return Held(1024 * int(lines["VmRSS"].split()[0]), files, int(lines["Threads"]))


class Soak:
    """The clients of one service."""

    def __init__(self, address: str, seed: int) -> None:
        self.address, self.seed = address, seed
        self.answers: Counter[str] = Counter()
        self.refused = 0
        self.wrong: list[str] = []
        self.errors: list[str] = []
        self.stop = threading.Event()
        self.base = [path.name for path in EXAMPLES.iterdir()]
        with self.client() as client:
            self.expected = {question: self.search(client, question) for question in QUESTIONS}
            self.scores = {question: self.rerank(client, question) for question in QUESTIONS}
            self.vectors = {question: self.embed(client, question) for question in QUESTIONS}

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=SECONDS)

    def post(self, client: httpx.Client, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  # JSON
        """Send until it is taken."""
        while True:
            answer = client.post(path, json=body)
            if answer.status_code not in BUSY:
                break
            self.refused += 1
            time.sleep(0.1)
        if answer.status_code >= 400:
            raise ValueError(f"{path} {json.dumps(body)[:80]}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def search(self, client: httpx.Client, question: str) -> dict[str, float]:
        found = self.post(client, "/v1/search", {"query": question, "files": self.base})["passages"]
        return {passage["id"]: passage["score"] for passage in found}

    def rerank(self, client: httpx.Client, question: str) -> dict[str, float]:
        results = self.post(client, "/v1/rerank", {"query": question, "documents": PASSAGES})["results"]
        return {str(result["index"]): result["relevance_score"] for result in results}

    def embed(self, client: httpx.Client, question: str) -> dict[str, float]:
        model = client.get("/v1/models").json()["data"][0]["id"]
        vector = self.post(client, "/v1/embeddings", {"model": model, "input": question})["data"][0]["embedding"]
        return {str(place): number for place, number in enumerate(vector)}

    def check(self, kind: str, found: dict[str, float], expected: dict[str, float]) -> None:
        self.answers[kind] += 1
        if list(found) != list(expected) or any(abs(found[key] - expected[key]) > TOLERANCE for key in expected):
            self.wrong.append(f"{kind}: {str(found)[:200]} instead of {str(expected)[:200]}")

    def ask(self, client: httpx.Client, rng: random.Random) -> None:
        question = rng.choice(QUESTIONS)
        kind = rng.choice(("search", "search", "rerank", "embed"))
        found: dict[str, float] = getattr(self, kind)(client, question)
        self.check(kind, found, {"search": self.expected, "rerank": self.scores, "embed": self.vectors}[kind][question])

    def index(self, client: httpx.Client, rng: random.Random) -> None:
        """Index a file, find it, delete it, find it no more."""
        number = rng.randrange(10**9)
        name, fact = f"coffre {number}.txt", f"Le code du coffre {number} est {number * 7}."
        while (answer := client.post("/v1/documents", files={"files": (name, fact)})).status_code in BUSY:
            self.refused += 1
            time.sleep(0.1)
        job = answer.json()["job"]
        while job["state"] in ("queued", "running"):
            time.sleep(0.05)
            job = client.get(f"/v1/jobs/{job['id']}").json()
        asked = {"query": f"Quel est le code du coffre {number} ?", "files": [name]}
        texts = [passage["content"] for passage in self.post(client, "/v1/search", asked)["passages"]]
        if job["state"] != "done" or texts != [fact]:
            self.wrong.append(f"index: {job['state']}, {texts} instead of {fact}")
        deleted = client.request("DELETE", "/v1/documents", json={"files": [name]}).json()
        listed = {file["file"] for file in client.get("/v1/documents?limit=200").json()["files"]}
        if deleted != {"removed": 1} or name in listed:
            self.wrong.append(f"delete: {deleted}, {name} listed: {name in listed}")
        self.answers["index"] += 1

    def break_off(self, client: httpx.Client, rng: random.Random) -> None:
        """Send what no client should; each is refused with one line, or the connection ends."""
        path = rng.choice(("/v1/search", "/v1/rerank", "/v1/embeddings", "/v1/documents"))
        junk = rng.randbytes(rng.randrange(1, 200))
        body = rng.choice(
            (junk, b"", b"{", b"[]", b"null", b'{"query": 1}', b'{"query": "a", "nonsense": 1}', b"[" * 5000)
        )
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        if answer.status_code in BUSY:
            self.refused += 1
        elif not 400 <= answer.status_code < 500 or "\n" in answer.json()["error"]["message"]:
            self.errors.append(f"{path} {body[:40]!r}: {answer.status_code} {answer.text[:200]}")
        self.answers["broken"] += 1

    def hang_up(self, _: httpx.Client, rng: random.Random) -> None:
        """Close the connection in the middle of a request, or before its answer."""
        url = urlparse(self.address)
        body = json.dumps({"query": rng.choice(QUESTIONS)}).encode()
        head = f"POST /v1/search HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        with socket.create_connection((str(url.hostname), url.port or 80), timeout=SECONDS) as connection:
            connection.sendall(request[: rng.choice((len(request), rng.randrange(1, len(request))))])
            time.sleep(rng.random() * 0.05)
        self.answers["hung up"] += 1

    def go_on(self, seconds: float) -> None:
        """Wait for so long, and until there was enough of each kind."""
        before, begun = Counter(self.answers), time.monotonic()
        while time.monotonic() < begun + seconds or any(self.answers[kind] - before[kind] < ROUNDS for kind in KINDS):
            assert time.monotonic() < begun + seconds + SECONDS, (self.answers, self.errors[-3:])
            time.sleep(0.1)

    def repeat(self, act: Callable[[httpx.Client, random.Random], None], pause: float, number: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        with self.client() as client:
            while not self.stop.is_set():
                try:
                    act(client, rng)
                except Exception as error:  # told at the end, whatever it is
                    self.errors.append(f"{act.__name__}: {type(error).__name__}: {error}")
                self.stop.wait(pause)


def soak(seconds: float, folder: Path, seed: int = 0) -> Soaked:
    """Load a service of its own.

    :param seconds: of load.
    :param folder: empty.
    :param seed: of what the clients do.
    :returns: what came of it.
    """
    index_files([EXAMPLES], folder / "store")
    command = [sys.executable, "-m", "bloomz_haystack", "serve", "--store", str(folder / "store"), "--port", "0"]
    with open(folder / "log", "wb+") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "BLOOMZ_TOKEN": ""})
    try:
        run = Soak(ready_address(process, folder / "log"), seed)
        acts = [(run.ask, 0.0)] * 4 + [(run.index, 0.1), (run.break_off, 0.05), (run.hang_up, 0.1)]
        threads = [threading.Thread(target=run.repeat, args=(*act, n), daemon=True) for n, act in enumerate(acts)]
        for thread in threads:
            thread.start()
        warm = max(seconds / 10, min(10, seconds / 2))
        run.go_on(warm)
        early = held(process.pid)
        run.go_on(seconds - warm)
        late = held(process.pid)
        run.stop.set()
        for thread in threads:
            thread.join(SECONDS)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(SECONDS)
    levels = [json.loads(line) for line in (folder / "log").read_text(encoding="utf-8").splitlines()]
    run.errors += [str(line) for line in levels if line.get("level", "info").lower() not in ("info", "warning")]
    return Soaked(dict(run.answers), run.refused, run.wrong, run.errors, early, late, code)


def ready_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Wait until the service answers, and return where."""
    deadline = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
        lines = log.read_text().splitlines()
        if lines:
            address = str(json.loads(lines[0])["address"])
            if httpx.get(f"{address}/readyz", timeout=SECONDS).status_code == 200:
                return address


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        soaked = soak(float(sys.argv[1]), Path(folder))
    sys.stdout.write(json.dumps(soaked._asdict(), indent=1) + "\n")
    sys.exit(bool(soaked.wrong or soaked.errors or soaked.code))
