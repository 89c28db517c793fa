"""What outlives a crash, a second process, a full disk, a damaged file, and threads."""

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge import shard as shard_module

PASSAGES, DIMENSION, BATCH = 20_000, 8, 500

INDEXING = """
import os, sys, threading
import numpy as np
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

folder, passages, dimension, batch = sys.argv[1], *map(int, sys.argv[2:5])
embeddings = np.random.default_rng(0).standard_normal((passages, dimension)).astype(np.float32)
store = QdrantEdgeDocumentStore(folder, dimension, indexed_meta_fields=["lang"])
middle = threading.Event()
if sys.argv[5:] == ["killed"]:  # from inside: no other process could be late
    threading.Thread(target=lambda: (middle.wait(), os.kill(os.getpid(), 9)), daemon=True).start()
for start in range(0, passages, batch):
    rows = range(start, min(start + batch, passages))
    documents = [Document(id=f"p{i}", content=f"passage {i}", meta={"lang": "fr" if i % 2 else "en"}) for i in rows]
    store.write_embeddings(documents, embeddings[rows.start : rows.stop], DuplicatePolicy.SKIP)
    print(rows.stop, flush=True)
    if rows.stop == 7_000:
        middle.set()
if sys.argv[5:] == ["wait"]:
    sys.stdin.read()
"""


def _start(folder: Path, *more: str, passages: int = PASSAGES) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INDEXING, str(folder), str(passages), str(DIMENSION), str(BATCH), *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read_until(process: subprocess.Popen[str], written: int) -> None:
    assert process.stdout is not None
    while int(process.stdout.readline()) < written:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2)
    yield store
    store.close()


@pytest.mark.slow
def test_kill_9_in_the_middle_of_indexing(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    process = _start(folder, "killed")
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    reported = int(printed.split()[-1])
    assert 7_000 <= reported < PASSAGES  # it was in the middle

    store = QdrantEdgeDocumentStore(str(folder), DIMENSION, indexed_meta_fields=["lang"])
    ids = [f"p{i}" for i in range(PASSAGES)]
    kept = store.existing_ids(ids)
    assert kept >= set(ids[:reported])  # nothing lost that was reported
    assert store.count_documents() == len(kept)
    assert len(kept) - reported in range(BATCH + 1)  # at most the batch that was under way
    embeddings = np.random.default_rng(0).standard_normal((PASSAGES, DIMENSION)).astype(np.float32)
    lang = ["en", "fr"]
    documents = [Document(id=f"p{i}", content=f"passage {i}", meta={"lang": lang[i % 2]}) for i in range(PASSAGES)]
    assert store.write_embeddings(documents, embeddings, DuplicatePolicy.SKIP) == PASSAGES - len(kept)
    assert store.count_documents() == PASSAGES  # nothing doubled
    documents = store.filter_documents()
    assert sorted(document.id for document in documents) == sorted(ids)
    for document in documents[::50]:
        number = int(document.id[1:])
        assert document.content == f"passage {number}"
        assert document.embedding == pytest.approx(embeddings[number], rel=1e-5, abs=1e-6)
    french = {"field": "meta.lang", "operator": "==", "value": "fr"}
    assert store.count_documents_by_filter(french) == PASSAGES // 2  # the payload index too
    store.close()


@pytest.mark.slow
def test_another_process_holds_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    process = _start(folder, "wait", passages=BATCH)
    _read_until(process, BATCH)
    store = QdrantEdgeDocumentStore(str(folder), DIMENSION)
    with pytest.raises(DocumentStoreError, match="open in another process: stop that process") as caught:
        store.count_documents()
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert store.read_info() == {}  # readable all the same
    process.communicate()  # ends it
    assert store.count_documents() == BATCH
    store.close()


def test_closed_and_reopened_without_loss(tmp_path: Path) -> None:
    documents = [
        Document(id="fr", content="Où est le chat ? 🐈", meta={"page": 1, "tags": ["é", None, {"a": 1.5}]}),
        Document(id="en", content="", meta={"a.b": "x", "c d": True, "": 0}, embedding=[3.0, 4.0]),
        Document(id="nothing"),
        Document(id="long", content="x" * 1_000_000, embedding=[1e-30, 0.0]),
        Document(id="ünïcode " * 50, content="\x00\n\t中", score=0.25),
        Document(id="blob", blob=ByteStream(b"\x00\xff", meta={"k": 1}, mime_type="image/png")),
        Document(id="sparse", sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25])),
    ]
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2)
    assert store.write_documents(documents) == 7
    for _ in range(2):
        found = {document.id: document for document in store.filter_documents()}
        assert len(found) == 7
        for document in documents:
            got, wanted = found[document.id].to_dict(flatten=False), document.to_dict(flatten=False)
            assert got.pop("embedding") == (pytest.approx(wanted["embedding"]) if wanted["embedding"] else None)
            del wanted["embedding"]
            assert got == wanted
        store.close()
        store.close()  # a second time does nothing


@pytest.mark.parametrize("meta", [{"n": float("nan")}, {"n": 2**64}, {"n": b"x"}, {"n": {1: 2}}, {"n": [{3}]}, {4: 5}])
def test_metadata_that_would_not_come_back_is_refused(store: QdrantEdgeDocumentStore, meta: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="document 'mauvais' cannot be stored: meta"):
        store.write_documents([Document(id="bon"), Document(id="mauvais", meta=meta)])
    assert store.count_documents() == 0


def test_a_lone_surrogate_is_refused_by_name(store: QdrantEdgeDocumentStore) -> None:
    with pytest.raises(ValueError, match="document 'mauvais' cannot be stored"):
        store.write_documents([Document(id="bon"), Document(id="mauvais", content="\ud800")])
    assert store.count_documents() == 0


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ([1.0], "1 numbers.*2"),
        ([0.0, 0.0], "zero"),
        ([float("nan"), 1.0], "not finite"),
        ([float("inf"), 1.0], "finite"),
    ],
)
def test_a_bad_embedding_names_its_document(
    store: QdrantEdgeDocumentStore, embedding: list[float], message: str
) -> None:
    documents = [Document(id="bon", embedding=[1.0, 2.0]), Document(id="mauvais", embedding=embedding)]
    with pytest.raises(ValueError, match=f"document 'mauvais'.*{message}"):
        store.write_documents(documents)
    if len(embedding) == 2:
        with pytest.raises(ValueError, match=f"document 'mauvais'.*{message}"):
            store.write_embeddings(documents, np.array([[1.0, 2.0], embedding]))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 2\)"):
        store.write_embeddings(documents, np.ones((2, 3)))
    assert store.count_documents() == 0


def test_duplicates_inside_one_call(store: QdrantEdgeDocumentStore) -> None:
    first, second = Document(id="même", content="un"), Document(id="même", content="two")
    other = Document(id="autre")
    for policy in (DuplicatePolicy.FAIL, DuplicatePolicy.NONE):
        with pytest.raises(DuplicateDocumentError, match="'même'"):
            store.write_documents([other, first, second], policy)
    assert store.count_documents() == 0
    assert store.write_documents([first, second, other], DuplicatePolicy.SKIP) == 2
    assert store.filter_documents({"field": "id", "operator": "==", "value": "même"})[0].content == "un"
    assert store.write_documents([first, second], DuplicatePolicy.OVERWRITE) == 1
    assert store.filter_documents({"field": "id", "operator": "==", "value": "même"})[0].content == "two"
    assert store.existing_ids(["même", "autre", "absent"]) == {"même", "autre"}
    assert store.write_documents([]) == 0
    assert store.existing_ids([]) == set()


def test_overwriting_without_an_embedding_removes_it(store: QdrantEdgeDocumentStore) -> None:
    store.write_documents([Document(id="a", embedding=[1.0, 0.0])])
    store.write_documents([Document(id="a", content="sans")], DuplicatePolicy.OVERWRITE)
    assert store.query_batch([[1.0, 0.0]]) == [[]]
    assert store.count_documents() == 1


def test_update_by_filter_keeps_embeddings_and_filters_follow(store: QdrantEdgeDocumentStore) -> None:
    store.write_documents([Document(id="a", embedding=[3.0, 4.0], meta={"v": 1}), Document(id="b", meta={"v": 1})])
    assert store.update_by_filter({"field": "id", "operator": "==", "value": "a"}, {"v": 2, "w": "é"}) == 1
    (updated,) = store.filter_documents({"field": "meta.v", "operator": ">", "value": 1})
    assert (updated.id, updated.meta, updated.embedding) == ("a", {"v": 2, "w": "é"}, pytest.approx([3.0, 4.0]))
    assert store.count_documents_by_filter({"field": "embedding", "operator": "!=", "value": None}) == 1


def test_another_dimension_or_datatype_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path / "store")
    store = QdrantEdgeDocumentStore(folder, 384)
    store.open()
    for _ in ("open in this process", "closed"):
        with pytest.raises(ValueError, match=r"384 numbers, but embedding_dim is 1024"):
            QdrantEdgeDocumentStore(folder, 1024).open()
        with pytest.raises(ValueError, match=r"float32, but datatype is float16"):
            QdrantEdgeDocumentStore(folder, 384, datatype="float16").open()
        store.close()


def test_stores_of_one_path_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    one = QdrantEdgeDocumentStore(str(tmp_path / "a" / ".." / "store"), 2)
    folder = one.folder
    two = QdrantEdgeDocumentStore("~/store", 2)
    one.write_documents([Document(id="partagé")])
    assert two.count_documents() == 1
    one.close()
    assert two.count_documents() == 1  # still open for the other
    assert one.count_documents() == 1  # and opened again
    assert folder in shard_module._OPEN
    del one, two  # a store that is forgotten lets go too
    gc.collect()
    assert folder not in shard_module._OPEN


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.txt").write_text("souvenir")
    with pytest.raises(ValueError, match=r"photo\.txt.*not a document store"):
        QdrantEdgeDocumentStore(str(tmp_path), 2).open()
    with pytest.raises(ValueError, match="is a file"):
        QdrantEdgeDocumentStore(str(tmp_path / "photo.txt"), 2).open()
    assert [entry.name for entry in tmp_path.iterdir()] == ["photo.txt"]


def test_info_is_kept(store: QdrantEdgeDocumentStore) -> None:
    assert store.read_info() == {}
    assert not store.folder.exists()  # reading makes nothing
    store.update_info(model="bloomz-560m-retriever-v2", langue="français")
    store.update_info(langue="English")
    store.close()
    assert store.read_info() == {"model": "bloomz-560m-retriever-v2", "langue": "English"}
    store.delete_all_documents()
    assert store.read_info()["langue"] == "English"
    with pytest.raises(TypeError, match="dimension must be a string, but got 3"):
        store.update_info(dimension=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ['{"embedding_dim": 2, "da', "", "[]", '{"format_version": 3}', "\x00\x00", "null"])
def test_a_damaged_store_file_is_named(tmp_path: Path, content: str) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2)
    store.write_documents([Document(id="a")])
    store.close()
    file = tmp_path / "store" / "store.json"
    whole = file.read_text()
    file.write_text(content)
    with pytest.raises(DocumentStoreError, match=r"store\.json is damaged") as caught:
        store.count_documents()
    assert "\n" not in str(caught.value)
    for version, remedy in ((99, "upgrade bloomz-haystack"), (1, "index the documents into a new store")):
        file.write_text(json.dumps({**json.loads(whole), "format_version": version}))
        with pytest.raises(DocumentStoreError, match=rf"has format {version}, and .* reads format 3: {remedy}"):
            store.count_documents()
    file.write_text(whole)
    assert store.count_documents() == 1
    store.close()


def test_a_full_disk_leaves_the_old_store_file(store: QdrantEdgeDocumentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.update_info(model="old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DocumentStoreError, match="No space left on device"):
        store.update_info(model="new")
    assert store.read_info() == {"model": "old"}
    assert [entry.name for entry in sorted(store.folder.iterdir())] == ["shard", "store.json"]


def test_an_almost_full_disk_is_refused_before_edge_dies(
    store: QdrantEdgeDocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_documents([Document(id="avant")])
    usage = shutil.disk_usage(store.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=70_000_000))
    assert store.write_documents([Document(id="petit")]) == 1
    with pytest.raises(DocumentStoreError, match=r"70 MB are free and 7\d MB are needed: free some space") as caught:
        store.write_documents([Document(id="gros", content="é" * 1_000_000)])
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    store.delete_documents(["avant"])  # making room is always allowed
    assert store.count_documents() == 1


FILE_LIMIT = """
import resource, signal, sys
from haystack import Document
from haystack.document_stores.errors import DocumentStoreError
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = QdrantEdgeDocumentStore(sys.argv[1], 2)
store.write_documents([Document(id="avant")])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    for i in range(200):
        store.write_documents([Document(id=f"{i} {j}", content="é" * 50_000) for j in range(50)])
except DocumentStoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_refuses_gives_one_line(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: Edge's own writes fail."""
    folder = tmp_path / "store"
    result = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(folder)], capture_output=True, text=True, check=False
    )
    assert result.stdout.count("\n") == 1, result.stderr
    assert str(folder) in result.stdout
    store = QdrantEdgeDocumentStore(str(folder), 2)
    assert store.existing_ids(["avant"]) == {"avant"}
    store.close()


def test_a_creation_that_was_killed_does_not_stand_in_the_way(store: QdrantEdgeDocumentStore) -> None:
    store.folder.mkdir()
    (store.folder / "store.json.abc").write_text("{")  # killed before store.json was there
    store.open()
    assert store.count_documents() == 0
    store.close()
    for shard in ("shard", "shard-0123.new"):  # killed with the shard in its place, and before
        file = store.folder / "store.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "complete": False}))
        os.rename(store.folder / "shard", store.folder / shard)
        other = QdrantEdgeDocumentStore(store.path, 3)  # nothing was written, so its size is free to choose
        assert store.count_documents() == 0
        assert other.write_documents([Document(id="a", embedding=[1.0, 2.0, 3.0])]) == 1
        assert [entry.name for entry in sorted(store.folder.iterdir())] == ["shard", "store.json"]
        other.close()


def test_delete_all_gives_the_disk_back(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 256, indexed_meta_fields=["lang"])
    vectors = np.random.default_rng(0).standard_normal((2000, 256))
    sizes = []
    for _ in range(3):
        store.write_embeddings([Document(id=str(i), meta={"lang": "fr"}) for i in range(2000)], vectors)
        assert store.count_documents_by_filter({"field": "meta.lang", "operator": "==", "value": "fr"}) == 2000
        store.close()
        sizes.append(sum(file.stat().st_blocks for file in (tmp_path / "store").rglob("*") if file.is_file()))
        store.delete_all_documents()
        assert store.count_documents() == 0
    assert max(sizes) < 1.1 * min(sizes)
    store.close()


def test_eight_threads_search_while_one_writes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
    documents = [Document(id=str(i), content=f"passage {i}") for i in range(3000)]
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 16)
    store.write_embeddings(documents[:500], vectors[:500])
    done, searches, failures = threading.Event(), [0] * 8, []
    most = 200_000  # 4,000 were seen; a writer that is starved would never end

    def search(thread: int) -> None:
        rng = np.random.default_rng(thread)
        while not done.is_set() and sum(searches) < most:
            wanted = int(rng.integers(500))
            found = store.query_batch([vectors[wanted]], top_k=3)[0]
            scores = [document.score or 0.0 for document in found]
            good = found[0].id == str(wanted) and abs(scores[0] - 1) < 1e-5 and scores == sorted(scores, reverse=True)
            if not good or found[0].content != f"passage {wanted}":
                failures.append(found)
            searches[thread] += 1

    threads = [threading.Thread(target=search, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    while not all(searches) and all(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    for begin in range(500, 3000, 250):
        store.write_embeddings(documents[begin : begin + 250], vectors[begin : begin + 250])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(searches) > 0
    assert sum(searches) < most, "the writer is starved"
    assert store.count_documents() == 3000
    store.close()


def test_closing_while_others_search_ends_cleanly(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2)
    store.write_documents([Document(id="a", embedding=[1.0, 0.0])])
    done, outcomes = threading.Event(), set()

    def search() -> None:
        while not done.is_set():
            try:
                outcomes.add(store.query_batch([[1.0, 0.0]])[0][0].id)
            except DocumentStoreError as error:
                outcomes.add("closed by another thread" if "closed by another thread" in str(error) else str(error))

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        store.close()
        time.sleep(0.005)
    done.set()
    for thread in threads:
        thread.join()
    assert outcomes <= {"a", "closed by another thread"}
    assert store.count_documents() == 1
    store.close()


async def test_async_twins_do_not_hold_the_event_loop(store: QdrantEdgeDocumentStore) -> None:
    documents = [Document(id=str(i), embedding=[1.0, float(i)]) for i in range(5000)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    assert await store.write_documents_async(documents) == 5000
    ticking.cancel()
    assert ticks > 5
    assert await store.existing_ids_async(["3", "x"]) == {"3"}
    assert (await store.query_batch_async([[1.0, 0.0]], top_k=1))[0][0].id == "0"
