"""Answers with their sources, whole and streamed, with and without a generator; the generator is a stand-in server that
speaks OpenAI's protocol over real HTTP, and misbehaves by the name of its model.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from haystack import Pipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.service.chat_generator import AnswerGenerator, writing_pipeline
from bloomz_haystack.service.chat_language import UNKNOWN, question_language
from bloomz_haystack.service.chat_types import ChatRequest
from bloomz_haystack.settings import TINY_RANKER, TINY_RETRIEVER, IndexSettings

FRENCH, ENGLISH = "Combien d'heures de sommeil faut-il à un adulte ?", "How many hours of sleep does an adult need?"
PIECES = ["Il faut ", "sept à neuf", " heures [1]", "."]
ANSWER = "".join(PIECES)
USAGE = {"prompt_tokens": 21, "completion_tokens": 7, "total_tokens": 28}

SECONDS = 600  # an end for what hangs, also on a slow machine
EXAMPLES = Path(__file__).parents[2] / "pipeline/bloomz_haystack/examples"

Serve = Callable[..., httpx.Client]


class StandIn(ThreadingHTTPServer):
    """An OpenAI-compatible server; `requests` keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StandInHandler)
        self.requests: list[dict[str, Any]] = []
        self.hung_up, self.over = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class StandInHandler(BaseHTTPRequestHandler):
    """Answers as the model's name says."""

    server: StandIn

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a chat completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({**body, "key": self.headers["Authorization"], "path": self.path})
        model = body["model"]
        statuses = {"broken": 500, "bad-key": 401, "unknown": 404, "busy": 429, "too-long": 400}
        if model in statuses:
            reason = "context length is 512 tokens\nTraceback (most recent call last)"
            self._json(statuses[model], {"error": {"message": reason, "type": "x", "code": None}})
        elif model == "slow":
            self.server.over.wait(SECONDS)
        elif model == "garbage":
            self._json(200, {"surprise": True})
        elif body.get("stream"):
            self._stream(model)
        else:
            message = {"role": "assistant", "content": ANSWER}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            answer = {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": choices}
            self._json(200, {**answer, "usage": USAGE})

    def _json(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        pieces = itertools.repeat("x") if model == "endless" else PIECES
        for place, piece in enumerate(pieces):
            if model == "dies" and place == 2:
                return  # without a finish, without [DONE]
            if model == "fails" and place == 2:
                self._event({"error": {"message": "out of memory", "type": "x", "code": None}})
                return
            try:
                self._event(self._chunk(model, {"role": "assistant", "content": piece}, None))
            except OSError:
                self.server.hung_up.set()
                return
            if model == "endless":
                time.sleep(0.01)
        self._event(self._chunk(model, {}, "stop"))
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, model: str, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
        return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices}

    def _event(self, data: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """The stand-in, running."""
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def generating(served: httpx.Client, stand_in: StandIn) -> Iterator[Callable[..., httpx.Client]]:
    """The service that is only read from, with a generator for one test: its start would cost seconds each time."""
    state = served.app.state.service  # type: ignore[attr-defined]

    def start(model: str, url: str | None = None) -> httpx.Client:
        state.generator = AnswerGenerator(url or stand_in.url, model)
        return served

    yield start
    state.generator = None


def body(question: str = FRENCH, **options: object) -> dict[str, Any]:
    """A request to chat."""
    return {"model": "bloomz", "messages": [{"role": "user", "content": question}], **options}


def chat(client: httpx.Client, question: str = FRENCH, **options: object) -> Any:  # noqa: ANN401  # JSON
    """Return the choice of a whole answer."""
    answer = client.post("/v1/chat/completions", json=body(question, **options))
    assert answer.status_code == 200, answer.text
    [choice] = answer.json()["choices"]
    return choice


def events(client: httpx.Client, question: str = FRENCH, **options: object) -> list[Any]:
    """Return the events of a streamed answer, [DONE] as text."""
    with client.stream("POST", "/v1/chat/completions", json=body(question, stream=True, **options)) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line if line == "data: [DONE]" else json.loads(line.removeprefix("data: ")) for line in lines]


def deltas(chunks: list[Any]) -> list[dict[str, Any]]:
    """Return the deltas of the events before [DONE]."""
    assert chunks[-1] == "data: [DONE]"
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
    return [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]


@pytest.mark.parametrize("question", [FRENCH, ENGLISH])
def test_without_a_generator_the_passages_are_the_answer(served: httpx.Client, question: str) -> None:
    found = served.post("/v1/search", json={"query": question, "top_k": 3}).json()["passages"]
    choice = chat(served, question, top_k=3)
    message = choice["message"]
    assert (choice["finish_reason"], message["role"], message["cited"]) == ("stop", "assistant", [1, 2, 3])
    for index, (passage, annotation) in enumerate(zip(found, message["annotations"], strict=True), 1):
        place = f"({', '.join(filter(None, [passage['title'], passage['source']]))})"
        assert f"[{index}] {passage['content']}\n{place}" in message["content"]
        source = annotation["passage"]
        assert (source["index"], source["id"], source["source"]) == (index, passage["id"], passage["source"])
        assert source["score"] == pytest.approx(passage["score"], abs=1e-6)
        assert source["answer"]["text"] == passage["answer"]["text"]
        assert source["page"] is None
        cited = annotation["url_citation"]
        title = passage["title"] or passage["source"]
        assert (annotation["type"], cited["title"], cited["url"]) == ("url_citation", title, passage["source"])
        assert message["content"][cited["start_index"] : cited["end_index"]] == f"[{index}]"


def test_a_stream_says_the_same_for_the_openai_client(served: httpx.Client) -> None:
    whole = chat(served, top_k=2)["message"]
    first, *rest = deltas(events(served, top_k=2))
    assert [annotation["passage"] for annotation in first["annotations"]] == [
        annotation["passage"] for annotation in whole["annotations"]
    ]
    assert "".join(delta["content"] for delta in rest if "content" in delta) == whole["content"]
    assert rest[-1]["cited"] == [1, 2]
    assert not any("annotations" in delta for delta in rest)
    client = openai.OpenAI(base_url=f"{served.base_url}/v1", api_key="none", max_retries=0)
    question: Any = {"role": "user", "content": [{"type": "text", "text": FRENCH}]}
    pieces = client.chat.completions.create(model="bloomz", messages=[question], stream=True, extra_body={"top_k": 2})
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole["content"]
    answer = client.chat.completions.create(model="openai/bloomz", messages=[question], extra_body={"top_k": 2})
    assert answer.choices[0].message.content == whole["content"]
    assert answer.choices[0].message.annotations
    assert (
        answer.choices[0].message.annotations[0].url_citation.title == first["annotations"][0]["url_citation"]["title"]
    )
    with client.chat.completions.stream(model="bloomz", messages=[question], extra_body={"top_k": 2}) as stream:
        assert stream.get_final_completion().choices[0].message.content == whole["content"]


@pytest.mark.parametrize(("question", "language"), [(FRENCH, "fr"), (ENGLISH, "en")])
def test_below_the_threshold_it_does_not_know(
    generating: Serve,
    stand_in: StandIn,
    question: str,
    language: Any,  # noqa: ANN401  # of two texts
) -> None:
    client = generating("good")
    message = chat(client, question, threshold=1.0)["message"]
    assert (message["content"], message["annotations"], message["cited"]) == (UNKNOWN[language], [], [])
    streamed = deltas(events(client, question, threshold=1.0))
    assert "".join(delta.get("content", "") for delta in streamed) == UNKNOWN[language]
    assert stand_in.requests == []  # the generator was not called


@pytest.mark.parametrize("key", [None, "s3cret"])
def test_a_generator_words_the_answer(
    serve: Serve, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    client = serve(generator=stand_in.url, generator_model="good")
    messages = [
        {"role": "system", "content": "Parle comme un pirate."},
        {"role": "user", "content": "Bonjour !"},
        {"role": "assistant", "content": "Bonjour."},
        {"role": "user", "content": FRENCH},
    ]
    answer = client.post("/v1/chat/completions", json=body(messages=messages, temperature=0, top_k=2)).json()
    message = answer["choices"][0]["message"]
    assert (message["content"], message["cited"], len(message["annotations"])) == (ANSWER, [1], 2)
    cited = message["annotations"][0]["url_citation"]
    assert ANSWER[cited["start_index"] : cited["end_index"]] == "[1]"
    assert {name: answer["usage"][name] for name in USAGE} == USAGE
    [sent] = stand_in.requests
    assert (sent["model"], sent["stream"], sent["temperature"], sent["path"]) == (
        "good",
        False,
        0,
        "/v1/chat/completions",
    )
    assert sent["key"] == f"Bearer {key or 'none'}"
    system, user = sent["messages"]
    assert "Answer in French" in system["content"]
    assert user["content"].endswith(f"Question: {FRENCH}")
    found = client.post("/v1/search", json={"query": FRENCH, "top_k": 2}).json()["passages"]
    for index, passage in enumerate(found, 1):
        title = f"{passage['title']}: " if passage["title"] else ""
        assert f"[{index}] {title}{passage['content']}\n" in user["content"]
    assert "pirate" not in json.dumps(sent)
    assert client.get("/v1/info").json()["generator"] == "good"


def test_a_generator_streams_piece_by_piece(generating: Serve, stand_in: StandIn) -> None:
    client = generating("good")
    chunks = events(client, ENGLISH, top_k=2, max_tokens=50)
    first, *pieces, last = deltas(chunks)
    assert [annotation["passage"]["index"] for annotation in first["annotations"]] == [1, 2]
    assert [delta["content"] for delta in pieces] == PIECES
    assert last["cited"] == [1]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    [sent] = stand_in.requests
    assert (sent["stream"], sent["max_tokens"]) == (True, 50)
    assert "Answer in English" in sent["messages"][0]["content"]
    assert 'bloomz_step_seconds_count{step="generate"}' in client.get("/metrics").text


FAILURES = [
    ("broken", 502, "the generator broken failed with status 500: context length is 512 tokens Traceback"),
    ("bad-key", 502, "the generator bad-key refused its key: set OPENAI_API_KEY"),
    ("unknown", 502, "the generator unknown is not known to its server"),
    ("busy", 502, "the generator busy has too much to do"),
    ("too-long", 502, "failed with status 400: context length is 512 tokens"),
    ("slow", 504, "the generator slow took too long to answer"),
    ("garbage", 502, "the generator garbage sent what cannot be read"),
]


@pytest.mark.parametrize(("model", "status", "line"), FAILURES)
def test_a_generator_that_fails_is_one_line(
    generating: Serve, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, model: str, status: int, line: str
) -> None:
    monkeypatch.setenv("OPENAI_TIMEOUT", "0.5" if model == "slow" else str(SECONDS))
    client = generating(model)
    answer = client.post("/v1/chat/completions", json=body())
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert line in answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]
    if model != "garbage":
        first, failure = events(client)
        assert first["choices"][0]["delta"]["annotations"]
        assert failure["error"]["message"] == answer.json()["error"]["message"]
    assert len(stand_in.requests) == (1 if model == "garbage" else 2)  # nothing is tried again


def test_a_generator_that_is_down(generating: Serve) -> None:
    client = generating("away", "http://127.0.0.1:9/v1")
    answer = client.post("/v1/chat/completions", json=body())
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == "the generator away cannot be reached: is its server running?"
    assert events(client)[-1]["error"]["message"] == answer.json()["error"]["message"]


@pytest.mark.parametrize(("model", "line"), [("fails", "failed: out of memory"), ("dies", "or broke off")])
def test_a_generator_that_fails_amid_a_stream(generating: Serve, stand_in: StandIn, model: str, line: str) -> None:
    client = generating(model)
    *pieces, failure = events(client)
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in pieces)
    assert text == "".join(PIECES[:2])
    assert line in failure["error"]["message"]
    openai_client = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0)
    question: Any = {"role": "user", "content": FRENCH}
    with pytest.raises(openai.APIError, match=line):
        list(openai_client.chat.completions.create(model="bloomz", messages=[question], stream=True))


def test_a_reader_who_leaves_stops_the_generator(generating: Serve, stand_in: StandIn) -> None:
    client = generating("endless")
    with client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as answer:
        lines = answer.iter_lines()
        for _ in range(6):
            next(lines)
    assert stand_in.hung_up.wait(SECONDS)


@pytest.mark.parametrize(
    ("wrong", "status", "line"),
    [
        ({"messages": []}, 422, "messages: "),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 422, "messages: the last one of the role user"),
        ({"messages": [{"role": "user", "content": " "}]}, 422, "messages: the last one of the role user"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 422, "it has no text"),
        ({"messages": [{"role": "pirate", "content": "a"}]}, 422, "messages.0.role"),
        ({"model": "gpt-4"}, 404, "the model 'gpt-4' does not chat here: use 'bloomz'"),
        ({"treshold": 0.5}, 422, "treshold: unknown field"),
        ({"threshold": 2}, 422, "threshold"),
        ({"n": 2}, 422, "n: "),
        ({"files": ["nowhere.txt"]}, 422, "files: the store holds no passages of"),
        ({"temperature": "hot"}, 422, "temperature"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_clients_mistake_is_one_line(
    served: httpx.Client, wrong: dict[str, Any], status: int, line: str, stream: bool
) -> None:
    answer = served.post("/v1/chat/completions", json={**body(), "stream": stream, **wrong})
    assert answer.status_code == status, answer.text
    assert line in answer.json()["error"]["message"]


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "pirate"])},
        optional={
            "content": st.text() | st.none() | st.lists(st.fixed_dictionaries({"type": st.just("text")})),
            "x": st.text(),
        },
    ),
    max_size=3,
)


@given(
    messages=MESSAGES,
    options=st.dictionaries(st.sampled_from([*ChatRequest.model_fields]), st.none() | st.integers() | st.text()),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_conversation_gives_a_500(served: httpx.Client, messages: object, options: dict[str, object]) -> None:
    content = json.dumps({"messages": messages, **options}).encode()
    answer = served.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 404, 422), (answer.status_code, answer.text, content)


def test_a_question_too_long_is_cut_with_a_note(generating: Serve, stand_in: StandIn) -> None:
    client = generating("good")
    answer = client.post("/v1/chat/completions", json=body("sommeil " * 5000, top_k=1)).json()
    [note] = answer["notes"]
    assert note.startswith("the question was cut: it has ")
    assert len(stand_in.requests[0]["messages"][1]["content"]) < 8000
    assert "notes" not in client.post("/v1/chat/completions", json=body()).json()


LANGUAGES = [
    ("Où est la tour Eiffel ?", "fr"),
    ("Where is the tour Eiffel?", "en"),
    ("Durée de validité d'un passeport", "fr"),
    ("passport validity", "en"),
    ("Température", "fr"),
    ("Qui a écrit The Old Man and the Sea ?", "en"),  # most of its small words are English
    ("Pourquoi le ciel est-il bleu ?", "fr"),
    ("I'm tired: how come?", "en"),
    ("42", "en"),
]


@pytest.mark.parametrize(("question", "language"), LANGUAGES)
def test_the_language_of_a_question(question: str, language: str) -> None:
    assert question_language(question) == language


def rag_yaml(stand_in: StandIn, store: Path, threshold: float) -> str:
    """`rag.yaml`, changed as its head says, to the bundled pair."""
    text = files("bloomz_haystack").joinpath("rag.yaml").read_text(encoding="utf-8")
    changes = {
        "cmarkea/bloomz-560m-retriever-v2": TINY_RETRIEVER,
        "cmarkea/bloomz-560m-reranking": TINY_RANKER,
        "embedding_dim: 1024": "embedding_dim: 576",
        "path: store": f"path: {store}",
        "score_threshold: 0.8": f"score_threshold: {threshold}",
        "http://127.0.0.1:11434/v1\n      api_key": f"{stand_in.url}\n      api_key",
        "model: qwen3:4b": "model: good",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def test_rag_yaml_answers_in_plain_haystack(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    store = tmp_path / "store"
    index_files([EXAMPLES / "sleep.txt", EXAMPLES / "sommeil.txt"], store, IndexSettings())
    for threshold, known in ((0.0, True), (1.0, False)):
        pipeline = Pipeline.loads(rag_yaml(stand_in, store, threshold))
        question = {"embedder": {"text": FRENCH}, "ranker": {"query": FRENCH}}
        outputs = pipeline.run(
            {**question, "prompt_builder": {"question": FRENCH}, "answer_builder": {"query": FRENCH}}
        )
        pipeline.close()
        assert pipeline.dumps().count("s3cret") == 0
        if known:
            [answer] = outputs["answer_builder"]["answers"]
            assert answer.data == ANSWER
            assert [document.meta["referenced"] for document in answer.documents] == [True, False]
        else:
            assert outputs["router"] == {"unknown": "Je ne sais pas. / I do not know."}
    [sent] = stand_in.requests
    assert sent["key"] == "Bearer s3cret"
    assert "Answer in the language of the question" in sent["messages"][0]["content"]
    assert re.search(r"\[1\] .+\n\n\[2\] ", sent["messages"][1]["content"], flags=re.DOTALL)


def test_the_service_runs_what_rag_yaml_says(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    whole = Pipeline.loads(files("bloomz_haystack").joinpath("rag.yaml").read_text(encoding="utf-8")).to_dict()
    half = writing_pipeline("http://127.0.0.1:11434/v1", "qwen3:4b").to_dict()
    assert half["components"].keys() == {"router", "prompt_builder", "generator", "answer_builder"}
    assert half["components"] == {name: whole["components"][name] for name in half["components"]}
    assert all(edge in whole["connections"] for edge in half["connections"])
    assert len(half["connections"]) == len(whole["connections"]) - 3
