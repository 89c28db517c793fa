"""What is refused, with which status and which one line; and that no request at all gives a 500."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomz_haystack.service.settings import ServeSettings, check_token
from bloomz_haystack.settings import AskSettings

pytestmark = pytest.mark.slow  # a service of its own, its threads, or hundreds of requests

Serve = Callable[..., httpx.Client]
SECONDS = 600  # an end for what hangs, also on a slow machine
QUESTION = {"query": "Où est la tour Eiffel ?"}
NESTED = b'{"operator": "NOT", "conditions": [' * 300 + b"]}" * 300

REFUSED = [
    ("/v1/search", {}, 422, "query: is missing"),
    ("/v1/search", {"query": " "}, 422, "query: is empty"),
    ("/v1/search", {"query": 3}, 422, "query: should be a valid string, but got 3"),
    ("/v1/search", {**QUESTION, "topk": 3}, 422, "topk: unknown field"),
    ("/v1/search", {**QUESTION, "top_k": 0}, 422, "top_k: should be greater than or equal to 1, but got 0"),
    ("/v1/search", {**QUESTION, "top_k": 10**30}, 422, "top_k: should be less than or equal to 100"),
    ("/v1/search", {**QUESTION, "top_k": "5"}, 422, "top_k: should be a valid integer, but got '5'"),
    ("/v1/search", {**QUESTION, "candidates": 2.5}, 422, "candidates: should be a valid integer"),
    ("/v1/search", {**QUESTION, "threshold": 1.5}, 422, "threshold"),
    ("/v1/search", {**QUESTION, "threshold": "best"}, 422, "threshold"),
    ("/v1/search", {**QUESTION, "files": ["../../etc/passwd"]}, 422, "files: the store holds no passages of"),
    ("/v1/search", {**QUESTION, "files": []}, 422, "files"),
    ("/v1/search", {**QUESTION, "language": "de"}, 422, "language"),
    ("/v1/search", {**QUESTION, "filters": {"field": "meta.a"}}, 422, "filters: "),
    ("/v1/search", [], 422, "the body"),
    ("/v1/rerank", {**QUESTION, "documents": []}, 422, "documents"),
    ("/v1/rerank", {**QUESTION, "documents": [3]}, 422, "documents.0"),
    ("/v1/rerank", {**QUESTION, "documents": ["a"], "model": "gpt-4"}, 404, "the model 'gpt-4' is not served here"),
    ("/v1/embeddings", {"input": []}, 422, "input"),
    ("/v1/embeddings", {"input": "a", "dimensions": 3}, 422, "dimensions: this model gives vectors of"),
    ("/v1/nothing", {}, 404, "there is nothing at this address"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSED)
def test_a_clients_mistake_is_one_line(
    served: httpx.Client, path: str, body: object, status: int, message: str
) -> None:
    answer = served.post(path, json=body)
    assert_error(answer, status, message)


def test_a_ranker_of_ones_own_recommends_nothing_and_shows_no_path(serve: Serve, tiny_ranker: Path) -> None:
    client = serve(ask=AskSettings(ranker=str(tiny_ranker)))
    auto = client.post("/v1/search", json={**QUESTION, "threshold": "auto"})
    assert_error(auto, 422, f"threshold: the ranker {tiny_ranker.name} recommends none")
    assert auto.json()["error"]["param"] == "threshold"
    info = client.get("/v1/info").json()
    assert (info["ranker"], info["threshold"]) == (tiny_ranker.name, None)
    for text in (auto.text, client.get("/v1/models").text, str(info)):
        assert str(tiny_ranker) not in text


def assert_error(answer: httpx.Response, status: int, message: str) -> None:
    """Check OpenAI's shape, the status and how the line begins."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert message in error["message"]
    assert "\n" not in error["message"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b'{"query": ', "application/json", 400, "not JSON: "),
        (b'{"query": "caf\xe9"}', "application/json", 400, "cannot be read"),
        (b'{"query": "\\ud800"}', "application/json", 422, "half a character"),
        (b'{"query": "a", "\\ud800": 1}', "application/json", 422, ""),
        (b'{"query": "a", "filters": ' + NESTED + b"}", "application/json", 422, ""),
        (b'{"query": "a", "threshold": NaN}', "application/json", 422, "threshold"),
        (b"[" * 100_000, "application/json", 400, ""),
        (b'{"query": "a", "top_k": ' + b"9" * 5000 + b"}", "application/json", 400, ""),
        (b"query=a", "application/x-www-form-urlencoded", 415, "expected a body of Content-Type: application/json"),
        (b'{"query": "a"}', "text/plain", 415, "but got text/plain"),
        (b"", "application/json", 422, "the body: is missing"),
    ],
)
def test_a_body_that_cannot_be_read(served: httpx.Client, content: bytes, kind: str, status: int, message: str) -> None:
    assert_error(served.post("/v1/search", content=content, headers={"Content-Type": kind}), status, message)


def test_a_method_that_is_not_taken(served: httpx.Client) -> None:
    assert_error(served.get("/v1/search"), 405, "does not take that method")


def test_a_body_too_large_is_refused_before_it_is_read(served: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", served.base_url.port)) as connection:
        connection.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n")
        connection.sendall(b"Content-Type: application/json\r\n\r\n")
        answer = connection.recv(65536)
    assert b" 413 " in answer.splitlines()[0]


def test_a_body_that_does_not_say_how_long_it_is(served: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    try:
        answer = served.post("/v1/search", content=endless(), headers={"Content-Type": "application/json"})
    except (httpx.NetworkError, httpx.RemoteProtocolError):  # the server hangs up while we still send
        return
    assert_error(answer, 413, "may have 4,000,000 bytes")


def test_bearer_token(serve: Serve) -> None:
    client = serve(token="s3cret", cors_origins=("https://example.org",))
    for path in ("/v1/info", "/v1/models", "/metrics", "/mcp", "/v1/documents", "/nothing"):
        assert_error(client.get(path), 401, "Authorization: Bearer TOKEN")
    assert_error(client.post("/v1/search", json=QUESTION), 401, "")
    for wrong in ("Bearer s3cre", "Bearer s3cretx", "Basic s3cret", "s3cret", "Bearer é"):
        sent = client.get("/v1/info", headers={b"Authorization": wrong.encode("latin-1")})
        assert sent.status_code == 401
        assert sent.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/v1/info", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert client.get("/healthz").status_code == 200
    allowed = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/search", headers=allowed).headers["access-control-allow-origin"] == "https://example.org"
    other = client.options("/v1/search", headers={**allowed, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_no_other_origin_without_being_told(served: httpx.Client) -> None:
    answer = served.get("/healthz", headers={"Origin": "https://example.org"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_no_page_of_another_origin_can_call(served: httpx.Client, serve: Serve) -> None:
    """A browser on this machine reaches the service, whatever page it shows."""
    own = f"http://127.0.0.1:{served.base_url.port}"
    assert served.post("/v1/search", json=QUESTION, headers={"Origin": own}).status_code == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", f"{own}.evil.example"):
        assert_error(served.post("/v1/search", json=QUESTION, headers={"Origin": origin}), 403, "may not call")
        form = served.post("/v1/documents", files=[("files", ("a.txt", b"a"))], headers={"Origin": origin})
        assert_error(form, 403, "allow them with --cors-origin")
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "a@b:c"):
        assert served.get("/v1/info", headers={"Host": host}).status_code in (400, 403)
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert served.get("/v1/info", headers={"Host": host}).status_code == 200
    allowed = serve(cors_origins=("https://example.org",))
    answer = allowed.post("/v1/search", json=QUESTION, headers={"Origin": "https://example.org"})
    assert answer.headers["access-control-allow-origin"] == "https://example.org"
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_a_network_needs_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can be reached by other machines: give a token"):
        ServeSettings(tmp_path, host=host)
    assert ServeSettings(tmp_path, host=host, token="t").token == "t"
    assert "secret" not in repr(ServeSettings(tmp_path, token="secret"))


@pytest.mark.parametrize("text", ["", " \n", "two words", "accentué", "a\x00b"])
def test_a_token_that_no_header_can_hold(text: str) -> None:
    with pytest.raises(ValueError, match="one word of printable ASCII"):
        check_token(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["query", "top_k", "candidates", "threshold", "filters", "files", "language", "hybrid", "sentences"]
FIELDS += ["documents", "top_n", "model", "return_documents", "input", "encoding_format", "dimensions"]
PLAUSIBLE = {
    "query": st.text(),
    "input": st.text() | st.lists(st.text(), max_size=3),
    "documents": st.lists(st.text(), max_size=4),
    "filters": st.fixed_dictionaries(
        {
            "field": st.sampled_from(["meta.language", "meta.split_id", "id", "content", "meta"]) | st.text(),
            "operator": st.sampled_from(["==", "!=", ">", "<=", "in", "not in", "AND", "NOT"]),
            "value": JSON,
        }
    ),
}


@st.composite
def bodies(draw: st.DrawFn) -> object:
    """A body: fields that are known, with values that may be right."""
    names = draw(st.sets(st.sampled_from(FIELDS), max_size=5)) | {draw(st.sampled_from(["query", "input"]))}
    return {name: draw(PLAUSIBLE.get(name, JSON) | JSON) for name in names}


@given(path=st.sampled_from(["/v1/search", "/v1/rerank", "/v1/embeddings"]), body=bodies() | JSON)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_body_gives_a_500(served: httpx.Client, path: str, body: object) -> None:
    content = json.dumps(body).encode()
    answer = served.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400, 404, 422), (answer.status_code, answer.text, body)


ADDRESSES = ["/v1/documents", "/v1/jobs/", "/v1/info", "/v1/models", "/healthz", "/static/", "/docs/", "/", "/v1/"]


@given(
    method=st.sampled_from(["GET", "HEAD", "DELETE", "PUT", "OPTIONS"]), start=st.sampled_from(ADDRESSES), end=st.text()
)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_address_gives_a_500(served: httpx.Client, method: str, start: str, end: str) -> None:
    answer = served.request(method, start + quote(end), params={"offset": end, "limit": "3"})
    assert answer.status_code < 500, (answer.status_code, answer.text)


@given(name=st.text(), field=st.sampled_from(["files", "file"]), content=st.binary(max_size=300), raw=st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_upload_gives_a_500(fuzzed: httpx.Client, name: str, field: str, content: bytes, raw: bool) -> None:
    if raw:
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = fuzzed.post("/v1/documents", content=head + content + b"\r\n--x--", headers=kind)
    else:
        answer = fuzzed.post("/v1/documents", files=[(field, (name, content))])
    assert answer.status_code in (202, 400, 422, 429), (answer.status_code, answer.text)


@given(
    method=st.sampled_from(["POST", "DELETE"]),
    body=st.dictionaries(st.sampled_from(["documents", "files", "filters"]), JSON),
)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_documents_give_a_500(fuzzed: httpx.Client, method: str, body: object) -> None:
    kind = {"Content-Type": "application/json"}
    answer = fuzzed.request(method, "/v1/documents", content=json.dumps(body).encode(), headers=kind)
    assert answer.status_code in (200, 202, 400, 409, 422, 429), (answer.status_code, answer.text)


def test_the_fuzzed_service_stands_and_wrote_nothing_outside(fuzzed: httpx.Client) -> None:
    folder = fuzzed.app.state.service.models.store.folder  # type: ignore[attr-defined]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["store"]
    until = time.monotonic() + SECONDS
    while fuzzed.app.state.service.jobs.busy() and time.monotonic() < until:  # type: ignore[attr-defined]
        time.sleep(0.05)
    assert fuzzed.post("/v1/search", json=QUESTION).status_code == 200
    listed = fuzzed.get("/v1/documents?limit=200").json()
    assert listed["total"] == len(listed["files"])
