"""Many clients at once, a full queue, clients that leave, models that are not loaded yet; what is counted."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from bloomz_haystack.settings import AskSettings
from haystack_integrations.common.bloomz import batches
from haystack_integrations.common.bloomz.packing import PackedBatch
from haystack_integrations.common.bloomz.scorer import Scorer
from haystack_integrations.common.bloomz.shared_calls import SharedCalls
from haystack_integrations.common.bloomz.tokens import TokenIds

pytestmark = pytest.mark.slow  # a service of its own, its threads, or hundreds of requests

Serve = Callable[..., httpx.Client]
QUESTIONS = [
    "Combien d'heures de sommeil faut-il à un adulte ?",
    "How long is a French passport valid?",
    "Quel est le plus long fleuve de France ?",
    "How many hours of sleep does an adult need?",
]
RERANK = {"query": "Où est la tour Eiffel ?", "documents": ["La tour Eiffel est à Paris, au bord de la Seine."]}
SECONDS = 600  # an end for what hangs, also on a slow machine


def numbers(client: httpx.Client) -> dict[str, float]:
    """Return Prometheus' numbers by name and labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(number) for name, number in (line.rsplit(" ", 1) for line in lines)}


def without_seconds(answer: httpx.Response) -> dict[str, Any]:
    """Return an answer without its times."""
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json().items() if name not in ("seconds", "id")}


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_many_at_once_get_the_answers_of_one_at_a_time(served: httpx.Client) -> None:
    def ask(place: int) -> dict[str, Any]:
        question = QUESTIONS[place % 4]
        if place % 3:
            return without_seconds(served.post("/v1/search", json={"query": question, "top_k": 1 + place % 2}))
        return without_seconds(served.post("/v1/rerank", json={"query": question, "documents": QUESTIONS}))

    alone = [ask(place) for place in range(12)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(ask, list(range(12)) * 2))
    assert together == alone * 2


def test_a_full_queue_refuses_and_a_client_that_left_costs_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(slots=1, waiting=1)
    answers: list[httpx.Response] = []
    score, go_on = Scorer.score, threading.Event()

    def held(self: Scorer, *given: Any, **options: Any) -> Any:  # noqa: ANN401
        assert go_on.wait(SECONDS)
        return score(self, *given, **options)

    monkeypatch.setattr(Scorer, "score", held)
    slow = threading.Thread(target=lambda: answers.append(client.post("/v1/rerank", json=RERANK)))
    slow.start()
    until(lambda: numbers(client)["bloomz_in_flight"] == 1)
    with socket.create_connection(("127.0.0.1", client.base_url.port or 80)) as leaving:
        search = json.dumps({"query": "a"})
        head = f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(search)}\r\n"
        leaving.sendall(f"{head}Content-Type: application/json\r\n\r\n{search}".encode())
        until(lambda: numbers(client)["bloomz_queue_length"] == 1)
        refused = client.post("/v1/search", json={"query": "Où est la tour Eiffel ?"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json()["error"]["type"] == "overloaded_error"
    until(lambda: client.get("/healthz").status_code == 200)  # the server has seen it go
    go_on.set()
    slow.join()
    assert [answer.status_code for answer in answers] == [200]
    until(lambda: numbers(client)["bloomz_queue_length"] == numbers(client)["bloomz_in_flight"] == 0)
    counted = numbers(client)
    assert counted["bloomz_refused_total"] == 1
    assert counted['bloomz_request_seconds_count{door="/v1/search",status="499"}'] == 1
    assert counted.get('bloomz_step_seconds_count{step="rank"}', 0) == 0
    assert client.post("/v1/search", json={"query": "Où est la tour Eiffel ?"}).status_code == 200


@pytest.mark.parametrize(("door", "calls_of_the_model"), [("short", [8]), ("slots", [2, 2, 2, 2])])
def test_short_texts_that_wait_are_one_call_of_the_model(
    served: httpx.Client, monkeypatch: pytest.MonkeyPatch, door: str, calls_of_the_model: list[int]
) -> None:
    """Through the two slots of a search no more than two would ever meet."""
    state = served.app.state.service  # type: ignore[attr-defined]
    calls, pack = state.models.embedder._warm_engine().checkpoint.short_calls, batches.pack
    alone = [vector(served, question) for question in QUESTIONS * 2]
    seen: list[int] = []

    def counted(token_ids: list[TokenIds]) -> PackedBatch:
        seen.append(len(token_ids))
        return pack(token_ids)

    monkeypatch.setattr(batches, "pack", counted)
    monkeypatch.setattr(calls, "_cores", torch.get_num_threads())  # one call at a time
    monkeypatch.setattr(state, "short", getattr(state, door))
    together: list[np.ndarray] = []
    with ThreadPoolExecutor(len(alone)) as threads:
        for start in range(0, len(alone), calls_of_the_model[0]):
            asked = (QUESTIONS * 2)[start : start + calls_of_the_model[0]]
            with held(calls):
                futures = [threads.submit(vector, served, question) for question in asked]
                until(lambda: len(calls._waiting) == calls_of_the_model[0])
            together += [future.result(SECONDS) for future in futures]
    assert seen == calls_of_the_model
    np.testing.assert_allclose(together, alone, atol=1e-5)


def vector(client: httpx.Client, text: str) -> np.ndarray:
    """Return what the service makes of a text."""
    return np.asarray(client.post("/v1/embeddings", json={"input": text}).json()["data"][0]["embedding"])


@contextmanager
def held(calls: SharedCalls) -> Iterator[None]:
    """Keep an engine busy."""
    started, enough = threading.Event(), threading.Event()

    def busy(inputs: list[list[int]]) -> torch.Tensor:
        started.set()
        assert enough.wait(SECONDS)
        return torch.zeros(len(inputs), 1)

    with ThreadPoolExecutor(1) as holder:
        holder.submit(calls.run, busy, [[0]])
        try:
            assert started.wait(SECONDS)
            yield
        finally:
            enough.set()


def test_until_the_models_are_loaded(serve: Serve) -> None:
    client = serve()
    ready = client.app.state.service.models.ready  # type: ignore[attr-defined]
    ready.clear()
    for answer in (client.get("/readyz"), client.post("/v1/search", json={"query": "a"})):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert "the models are still being loaded" in answer.text
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/info").json()["passages"] == 2
    ready.set()
    assert client.get("/readyz").status_code == 200


def test_what_is_counted(serve: Serve) -> None:
    client = serve(ask=AskSettings(prefix_cache="50MB"))
    for _ in range(2):
        assert client.post("/v1/search", json={"query": QUESTIONS[0]}).status_code == 200
    client.get("/nothing")
    counted = numbers(client)
    assert counted['bloomz_request_seconds_count{door="/v1/search",status="200"}'] == 2
    assert counted['bloomz_request_seconds_count{door="other",status="404"}'] == 1
    assert all(counted[f'bloomz_step_seconds_count{{step="{step}"}}'] == 2 for step in ("embed", "rank", "read"))
    assert counted["bloomz_passages"] == 2
    assert counted["bloomz_ready"] == 1
    assert counted["bloomz_prefix_cache_hits_total"] >= 2
