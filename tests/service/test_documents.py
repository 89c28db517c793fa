"""Documents over HTTP: files and texts in, listed, replaced and out again, while questions are answered."""

import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.indexing.stored import count_by_file
from bloomz_haystack.service import jobs
from bloomz_haystack.service.uploads import readable_name, safe_name
from bloomz_haystack.settings import IndexSettings
from bloomz_haystack.store_folder import StoreFolder

Serve = Callable[..., httpx.Client]
EXAMPLES = Path(__file__).parents[2] / "pipeline/bloomz_haystack/examples"
FRENCH = "Le musée des Abeilles ouvre à dix heures. L'entrée coûte sept euros."
SECONDS = 600  # an end for what hangs, also on a slow machine
ENGLISH = "The Bee Museum opens at ten. A ticket costs seven euros."


def send(client: httpx.Client, *files: tuple[str, bytes]) -> dict[str, Any]:
    """Send files and wait for their job."""
    answer = client.post("/v1/documents", files=[("files", file) for file in files])
    assert answer.status_code == 202, answer.text
    return finished(client, answer.json()["job"])


def finished(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job."""
    deadline = time.monotonic() + SECONDS
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
        job = client.get(f"/v1/jobs/{job['id']}").json()
    return job


def listed(client: httpx.Client) -> dict[str, int]:
    """Return passages by file."""
    return {file["file"]: file["passages"] for file in client.get("/v1/documents").json()["files"]}


def best(client: httpx.Client, question: str, **body: object) -> dict[str, Any]:
    """Return the best passage for a question."""
    passages: list[dict[str, Any]] = client.post("/v1/search", json={"query": question, **body}).json()["passages"]
    return passages[0]


def embedded(client: httpx.Client) -> int:
    """Return how many passages were embedded since the service was started."""
    lines = client.get("/metrics").text.splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("bloomz_embedded_total "))


def test_a_file_is_indexed_asked_replaced_and_removed(serve: Serve) -> None:
    client = serve()
    job = send(client, ("musée.txt", FRENCH.encode()), ("bees.md", f"# Bees\n\n{ENGLISH}".encode()))
    assert (job["state"], job["done"], job["total"]) == ("done", 2, 2)
    assert [(file["name"], file["state"], file["passages"]) for file in job["files"]] == [
        ("musée.txt", "done", 1),
        ("bees.md", "done", 1),
    ]
    assert listed(client) == {"bees.md": 1, "musée.txt": 1, "sleep.txt": 1, "sommeil.txt": 1}
    assert best(client, "How much is a ticket to the bee museum?", files=["musée.txt"])["source"] == "musée.txt"
    assert best(client, "À quelle heure ouvre le musée des Abeilles ?")["source"] in ("musée.txt", "bees.md")

    job = send(client, ("musée.txt", b"Le mus\xc3\xa9e est ferm\xc3\xa9."))
    assert job["files"][0]["passages"] == 1
    assert best(client, "Le musée est-il fermé ?", files=["musée.txt"])["content"] == "Le musée est fermé."
    assert listed(client)["musée.txt"] == 1

    removed = client.request("DELETE", "/v1/documents", json={"files": ["musée.txt", "sleep.txt"]})
    assert removed.json() == {"removed": 2}
    assert listed(client) == {"bees.md": 1, "sommeil.txt": 1}
    answer = client.post("/v1/search", json={"query": "Le musée est-il fermé ?", "top_k": 10}).json()
    assert {passage["source"] for passage in answer["passages"]} == {"bees.md", "sommeil.txt"}
    again = client.request("DELETE", "/v1/documents", json={"files": ["musée.txt"]})
    assert again.status_code == 422
    by_filter = {"field": "meta.title", "operator": "==", "value": "Bees"}
    assert client.request("DELETE", "/v1/documents", json={"filters": by_filter}).json() == {"removed": 1}
    assert not list((client.app.state.service.models.store.folder / "uploads").glob("[!.]*"))  # type: ignore[attr-defined]


def test_the_same_file_again_embeds_nothing_and_other_doors_agree(serve: Serve, tmp_path: Path) -> None:
    store = tmp_path / "store"
    index_files([EXAMPLES], store, IndexSettings())
    client = serve(store=store)
    content = (EXAMPLES / "questions-courantes.jsonl").read_bytes()
    first = send(client, ("autre.jsonl", content))["files"][0]
    folder = store / "uploads" / "autre.jsonl"
    assert folder.read_bytes() == content
    passages = client.get("/v1/info").json()["passages"]
    again = send(client, ("autre.jsonl", content))["files"][0]
    assert again["passages"] == first["passages"] == embedded(client) > 5
    assert client.get("/v1/info").json()["passages"] == passages
    summary = index_files([folder], store, IndexSettings())  # the same process: the store is shared
    assert (summary.embedded, summary.unchanged, summary.removed) == (0, first["passages"], 0)
    with StoreFolder(store).opened() as documents:
        counts = dict(count_by_file(documents))
    assert counts == listed(client)


def test_a_name_that_was_indexed_before_stays_apart_and_shows_no_path(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    send(client, ("sleep.txt", ENGLISH.encode()))
    names = listed(client)
    assert len(names) == 3
    other = next(name for name in names if name.startswith("sleep.txt ["))
    assert str(tmp_path) not in json.dumps(names)
    assert "/" not in other
    assert best(client, "bees", files=["sleep.txt"])["content"] == ENGLISH
    assert best(client, "bees", files=[other])["content"] != ENGLISH


def test_texts_as_json(serve: Serve) -> None:
    client = serve()
    body = {
        "documents": [
            {"content": FRENCH, "title": "Musée", "meta": {"language": "fr", "room": 3}},
            {"content": ENGLISH, "meta": {"language": "en"}},
        ]
    }
    for _ in range(2):  # the same again replaces itself
        job = finished(client, client.post("/v1/documents", json=body).json()["job"])
        [file] = job["files"]
        assert (file["passages"], file["problem"]) == (2, None)
        assert len(listed(client)) == 3
    assert client.get("/v1/info").json()["languages"] == ["en", "fr"]
    passage = best(client, "When does the museum open?", language="fr")
    assert (passage["content"], passage["title"], passage["meta"]["room"]) == (FRENCH, "Musée", 3)


def test_what_cannot_be_read_is_a_problem_of_its_file(serve: Serve) -> None:
    client = serve()
    job = send(
        client,
        ("photo.png", b"\x89PNG\r\n\x1a\n\0\0"),
        ("broken.pdf", b"%PDF-1.7 nothing more"),
        ("empty.txt", b""),
        ("lines.jsonl", b'{"content": "Une ruche."}\nnot json\n{"text": "A hive."}\n'),
        ("Notes", FRENCH.encode()),
    )
    files = {file["name"]: file for file in job["files"]}
    assert job["state"] == "done"
    assert {name: file["state"] for name, file in files.items()} == {
        "photo.png": "failed",
        "broken.pdf": "failed",
        "empty.txt": "failed",
        "lines.jsonl": "done",
        "Notes.txt": "done",
    }
    assert files["photo.png"]["problem"].startswith("cannot read a .png file: give .txt, .md")
    assert files["empty.txt"]["problem"] == "there is no text in it"
    assert files["lines.jsonl"]["problem"].startswith("line 2: not JSON")
    assert files["lines.jsonl"]["passages"] == 2
    assert set(listed(client)) == {"Notes.txt", "lines.jsonl", "sleep.txt", "sommeil.txt"}
    folder = client.app.state.service.models.store.folder / "uploads"  # type: ignore[attr-defined]
    assert sorted(path.name for path in folder.iterdir()) == [".incoming", "Notes.txt", "lines.jsonl"]
    assert not list((folder / ".incoming").iterdir())
    assert send(client, ("broken.pdf", b"%PDF-1.7 nothing more"))["state"] == "failed"


def test_a_file_that_can_no_longer_be_read_keeps_what_was_known_of_it(serve: Serve) -> None:
    client = serve()
    send(client, ("bees.txt", ENGLISH.encode()))
    job = send(client, ("bees.txt", b"\0\0\0"))
    assert job["files"][0]["state"] == "failed"
    assert best(client, "bee museum", files=["bees.txt"])["content"] == ENGLISH
    folder = client.app.state.service.models.store.folder / "uploads"  # type: ignore[attr-defined]
    assert (folder / "bees.txt").read_bytes() == ENGLISH.encode()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/shadow", "shadow"),
        ("C:\\Users\\x\\Été.txt", "Été.txt"),
        ("e\u0301te\u0301.txt", "été.txt"),
        ("..", ""),
        (".hidden", "hidden"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("a\nb\x00.txt", "ab.txt"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("é" * 300 + ".txt", "é" * 98 + ".txt"),
        ("a." + "y" * 300, "a." + "y" * 198),
        ("<img src=x onerror=alert(1)>.txt", "_img src=x onerror=alert(1)_.txt"),
        ("con%41.txt", "con_41.txt"),
        ("  two   words .txt", "two words .txt"),
    ],
)
def test_a_name_is_only_a_name(given: str, name: str) -> None:
    assert safe_name(given) == name


def test_content_says_what_a_file_is() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("word/document.xml", "")
    archive.seek(0)
    assert readable_name("lettre", archive) == "lettre.docx"
    assert archive.tell() == 0
    assert readable_name("report.txt", io.BytesIO(b"%PDF-1.4")) == "report.txt.pdf"
    assert readable_name("page", io.BytesIO(b"<!DOCTYPE html><p>a")) == "page.html"
    assert readable_name("page.md", io.BytesIO(b"plain")) == "page.md"
    assert readable_name("journal.log", io.BytesIO("été".encode())) == "journal.log.txt"
    with pytest.raises(ValueError, match=r"cannot read a \.exe file"):
        readable_name("setup.exe", io.BytesIO(b"MZ\0"))


def test_uploads_that_are_refused(serve: Serve) -> None:
    client = serve(max_upload=100_000)

    def refused(status: int, message: str, **request: Any) -> None:  # noqa: ANN401
        answer = client.post("/v1/documents", **request)
        assert answer.status_code == status, answer.text
        assert message in answer.json()["error"]["message"]

    text = b"a text"
    refused(413, "may have 100,000 bytes", files=[("files", ("a.txt", b"x" * 200_000))])
    refused(422, "two files of this request are named 'a.txt'", files=[("files", ("a.txt", text))] * 2)
    refused(422, "two files of this request", files=[("files", ("x/a.txt", text)), ("files", ("y\\a.txt", text))])
    refused(422, "a file needs a name, but got '..'", files=[("files", ("..", text))])
    refused(422, "unknown field 'file'", files=[("file", ("a.txt", text))])
    refused(422, "must hold a file", data={"files": "a text"}, files=[("files", ("a.txt", text))])
    refused(415, "but got text/plain", content=text, headers={"Content-Type": "text/plain"})
    refused(400, "", content=text, headers={"Content-Type": "multipart/form-data"})
    refused(400, "", content=text, headers={"Content-Type": "multipart/form-data; boundary=a"})
    refused(422, "documents", json={"documents": []})
    refused(422, "documents.0.contents: unknown field", json={"documents": [{"content": "a", "contents": "b"}]})
    refused(400, "not JSON", content=b"{", headers={"Content-Type": "application/json"})
    assert client.get("/v1/jobs/nothing").status_code == 404
    assert client.get("/v1/documents?limit=0").status_code == 422
    both: dict[str, object] = {"files": ["sleep.txt"], "filters": {"field": "id", "operator": "==", "value": "a"}}
    unclear: list[dict[str, object]] = [{}, both, {"filters": {}}]
    for body in unclear:
        assert client.request("DELETE", "/v1/documents", json=body).status_code == 422
    assert len(listed(client)) == 2


def test_a_client_that_leaves_in_the_middle_of_an_upload(serve: Serve) -> None:
    client = serve()
    with socket.create_connection(("127.0.0.1", client.base_url.port)) as connection:
        head = ["POST /v1/documents HTTP/1.1", "Host: localhost", "Content-Length: 5000"]
        head.append("Content-Type: multipart/form-data; boundary=x\r\n\r\n--x")
        connection.sendall("\r\n".join(head).encode())
    gone = 'bloomz_request_seconds_count{door="/v1/documents",status="499"} 1.0'
    deadline = time.monotonic() + SECONDS
    while gone not in client.get("/metrics").text:
        assert time.monotonic() < deadline, client.get("/metrics").text
        time.sleep(0.05)
    assert len(listed(client)) == 2


def test_too_many_jobs(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 0)
    answer = serve().post("/v1/documents", json={"documents": [{"content": "a"}]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_the_list_is_paged_and_titled(served: httpx.Client) -> None:
    whole = served.get("/v1/documents").json()
    assert whole["total"] == len(whole["files"]) == 10
    page = served.get("/v1/documents?offset=2&limit=3").json()
    assert (page["files"], page["total"]) == (whole["files"][2:5], 10)
    assert sum(file["passages"] for file in whole["files"]) == 32
    titles = {file["file"]: file["title"] for file in whole["files"]}
    assert titles["bank-card.md"]
    assert titles["everyday-facts.jsonl"] is None  # a title a line


def test_answers_stay_right_while_files_come_and_go(serve: Serve) -> None:
    client = serve()
    question = "How many hours of sleep does an adult need?"
    expected = best(client, question, files=["sleep.txt"])
    stop, wrong = threading.Event(), list[str]()

    def ask() -> None:
        while not stop.is_set():
            if best(client, question, files=["sleep.txt"]) != expected:
                wrong.append("another passage")

    def ask_all() -> None:
        while not stop.is_set():
            answer = client.post("/v1/search", json={"query": question, "top_k": 20})
            if answer.status_code != 200 or answer.json()["passages"][0]["id"] != expected["id"]:
                wrong.append(answer.text)

    threads = [threading.Thread(target=ask), threading.Thread(target=ask_all)]
    for thread in threads:
        thread.start()
    for round_ in range(3):
        lines = [json.dumps({"content": f"Bee number {line} of round {round_} lives in a hive."}) for line in range(60)]
        assert send(client, ("bees.jsonl", "\n".join(lines).encode()))["files"][0]["passages"] == 60
        assert listed(client)["bees.jsonl"] == 60
    client.request("DELETE", "/v1/documents", json={"files": ["bees.jsonl"]})
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert listed(client) == {"sleep.txt": 1, "sommeil.txt": 1}
