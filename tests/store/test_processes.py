"""A store among processes, users and disks: forks, waiting in line, rights, what is missing; and the model it is of."""

import errno
import gc
import json
import os
import select
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy

from bloomz_haystack import ask_pipeline, index_pipeline
from bloomz_haystack import Answerer, AskSettings
from bloomz_haystack.settings import IndexSettings
from bloomz_haystack.indexing.index import index_files
from haystack_integrations.common.bloomz.identity import Embedding, ModelIdentity, embedding_of, weights_of
from haystack_integrations.common.bloomz.whole_files import write_whole
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become nobody")
NOBODY = 65534
SECONDS = 600  # an end for what hangs, also on a slow machine
QUERY = [1.0, 2.0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(tmp_path / "store", 2, hybrid=True)
    store.write_documents([Document(id="a", content="le loyer, the rent", embedding=QUERY, meta={"n": 1})])
    yield store
    store.close()


def in_child(work: Callable[[], object]) -> str:
    """What `work` returned or raised in a forked child, if it does not hang."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = repr(work())
        except BaseException as error:
            said = f"{type(error).__mro__[-4].__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        ended, _, _ = select.select([pipe], [], [], SECONDS)
        if not ended:
            os.kill(child, 9)
        os.waitpid(child, 0)
        return pipe.read() if ended else "hangs"


USES: dict[str, Callable[[QdrantEdgeDocumentStore], object]] = {
    "open": lambda store: store.open(),
    "count": lambda store: store.count_documents(),
    "count by filter": lambda store: store.count_documents_by_filter({"field": "meta.n", "operator": "==", "value": 1}),
    "read": lambda store: store.filter_documents(),
    "look up": lambda store: store.existing_ids(["a"]),
    "search": lambda store: store.query_batch([QUERY]),
    "hybrid search": lambda store: store.query_hybrid_batch(["loyer"], [QUERY]),
    "write": lambda store: store.write_documents([Document(id="fils", embedding=QUERY)]),
    "update": lambda store: store.update_by_filter({}, {"n": 2}),
    "delete": lambda store: store.delete_documents(["a"]),
    "delete by filter": lambda store: store.delete_by_filter({}),
    "delete all": lambda store: store.delete_all_documents(),
    "info": lambda store: store.update_info(x="y"),
    "statistics": lambda store: store.get_metadata_fields_info(),
}


@needs_fork
def test_a_forked_child_gets_one_line_from_every_method(store: QdrantEdgeDocumentStore) -> None:
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        shard = store._shard()
        with shard.writing, shard.changing():
            held.set()
            leave.wait(SECONDS)

    for busy in (False, True):  # a thread of the parent may be inside, with every lock, when the fork comes
        thread = threading.Thread(target=hold) if busy else None
        if thread:
            thread.start()
            held.wait(SECONDS)
        for use, work in USES.items():
            said = in_child(lambda work=work: work(store))  # type: ignore[misc]
            assert "was opened before this process was forked" in said, (use, said)
            assert "\n" not in said
        assert "is open in another process" in in_child(
            lambda: QdrantEdgeDocumentStore(store.path, 2).count_documents()
        )
        leave.set()
        if thread:
            thread.join()
    store.write_documents([Document(id="b")])
    store.close()
    assert store.existing_ids(["a", "b", "fils"]) == {"a", "b"}


@needs_fork
def test_a_child_may_use_what_was_closed_and_keeps_no_lock(store: QdrantEdgeDocumentStore) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # lives on, as a worker of a pool does
        os.read(read, 1)
        os._exit(0)
    store.close()
    if Path("/proc/self/fd").exists():
        assert store.count_documents() == 1  # opened again, although the child lives
    store.close()
    assert in_child(lambda: store.write_documents([Document(id="fils")])) == "1"
    os.write(write, b"x")
    os.waitpid(child, 0)
    assert store.existing_ids(["fils"]) == {"fils"}


@pytest.mark.slow
@needs_fork
def test_a_child_that_does_something_else_ends(store: QdrantEdgeDocumentStore) -> None:
    script = (
        "import os, sys\nfrom haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore\n"
        f"store = QdrantEdgeDocumentStore({str(store.folder) + '2'!r}, 2); store.open()\n"
        "child = os.fork()\nif child == 0: sys.exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), store.count_documents())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.stdout, done.returncode) == ("7 0\n", 0), done.stderr


HOLDER = """
import sys
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
store = QdrantEdgeDocumentStore(sys.argv[1], 2)
store.open()
print("held", flush=True)
sys.stdin.readline()
store.close()
"""


@pytest.mark.slow
def test_waiting_for_another_process(store: QdrantEdgeDocumentStore, caplog: pytest.LogCaptureFixture) -> None:
    def notes() -> list[str]:
        return [message for message in caplog.messages if "open in another process: waiting" in message]

    store.close()
    command = [sys.executable, "-c", HOLDER, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(DocumentStoreError, match="is open in another process"):
            store.count_documents()
        assert caplog.messages == []
        with pytest.raises(DocumentStoreError, match="is open in another process"):
            store.open(wait=0.3)

        def let_go() -> None:
            while len(notes()) < 2:  # until the next one waits
                time.sleep(0.01)
            holder.communicate("\n")

        letting_go = threading.Thread(target=let_go)
        letting_go.start()
        store.open(wait=SECONDS)
        assert store.count_documents() == 1
        letting_go.join()
    assert len(notes()) == 2  # one note a wait


def as_nobody(work: Callable[[], object]) -> str:
    """What a user who owns nothing gets."""

    def drop() -> object:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return work()

    return in_child(drop)


def set_rights(folder: Path, files: int, folders: int) -> None:
    """Give every file and folder of a store the same rights."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(folders if path.is_dir() else files)


@needs_root
def test_rights_that_are_missing_are_named(store: QdrantEdgeDocumentStore, tmp_path: Path) -> None:
    store.close()
    for parent in tmp_path.parents:
        if parent.stat().st_mode & stat.S_IXOTH == 0:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)  # pytest's own folders are private
    tmp_path.chmod(0o755)
    set_rights(store.folder, 0o644, 0o755)
    said = as_nobody(lambda: store.query_batch([QUERY]))
    assert "may not read and write all of the document store" in said
    assert "chmod -R u+rwX" in said
    assert "copy the folder" in said
    (store.folder / "store.json").chmod(0o600)
    said = as_nobody(lambda: store.count_documents())
    assert "store.json may not be read by this user: give the right with chmod" in said
    store.folder.chmod(0o700)
    assert "store.json may not be read by this user" in as_nobody(lambda: store.count_documents())
    assert "delete" not in said
    said = as_nobody(lambda: QdrantEdgeDocumentStore(tmp_path / "new", 2).open())
    assert "no document store can be made at" in said
    assert "give a path where this user may write" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EROFS, "is on a read-only file system, and Qdrant Edge writes even to search: copy the folder"),
        (errno.EACCES, "may not read and write all of"),
        (errno.ENOSPC, "the disk is full under"),
        (errno.EIO, "the disk failed under"),
    ],
)
def test_what_a_disk_refuses_is_said(store: QdrantEdgeDocumentStore, code: int, words: str, tmp_path: Path) -> None:
    from haystack_integrations.document_stores.qdrant_edge.disk import edge_errors

    for error in (OSError(code, os.strerror(code)), Exception(f"Service runtime error:\n mmap: no (os error {code})")):
        with pytest.raises(DocumentStoreError, match=words) as caught, edge_errors(tmp_path):
            raise error
        assert "\n" not in str(caught.value)


@needs_root
def test_a_read_only_mount_says_why_and_how(store: QdrantEdgeDocumentStore, tmp_path: Path) -> None:
    store.close()
    mount = tmp_path / "mount"
    mount.mkdir()
    if subprocess.run(["mount", "--bind", str(store.folder), str(mount)], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mount)], check=True)
        with pytest.raises(DocumentStoreError, match="is on a read-only file system, and Qdrant Edge writes even to"):
            QdrantEdgeDocumentStore(mount, 2).query_batch([QUERY])
        copy = shutil.copytree(mount, tmp_path / "copy")
        assert QdrantEdgeDocumentStore(copy, 2).query_batch([QUERY])[0][0].id == "a"  # what the line advises
        with pytest.raises(DocumentStoreError, match=r"no document store can be made at .*Read-only"):
            QdrantEdgeDocumentStore(mount / "new", 2).open()
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_question_never_makes_a_store(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(tmp_path / "wrong", 2, hybrid=True)
    retriever = QdrantEdgeEmbeddingRetriever(store)
    for call in (lambda: retriever.run(QUERY), lambda: store.query_hybrid_batch(["loyer"], [QUERY])):
        with pytest.raises(DocumentStoreError, match=r"there is no document store at .*wrong: give the path of one"):
            call()
    assert (store.count_documents(), store.filter_documents(), store.existing_ids(["a"])) == (0, [], set())
    assert store.get_metadata_fields_info() == {}
    assert not store.folder.exists()


def test_a_store_without_its_shard_says_so(store: QdrantEdgeDocumentStore) -> None:
    store.close()
    aside = store.folder.with_name("aside")
    (store.folder / "shard").rename(aside)
    for use in ("count", "search", "open"):
        with pytest.raises(
            DocumentStoreError, match="has lost its folder shard, which holds the documents: put it back"
        ):
            USES[use](store)
    assert [entry.name for entry in store.folder.iterdir()] == ["store.json"]
    aside.rename(store.folder / "shard")
    assert store.count_documents() == 1
    store.close()
    (store.folder / "shard").rename(store.folder / "shard-12.old")  # killed while it deleted all documents
    assert store.count_documents() == 0


def test_a_disk_full_before_the_first_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    store = QdrantEdgeDocumentStore(tmp_path / "store", 2)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
        with pytest.raises(DocumentStoreError, match=r"the disk is full under .*1 MB are free and 64 MB are needed"):
            store.write_documents([Document(id="a")])
    assert not store.folder.exists()
    assert store.write_documents([Document(id="a")]) == 1
    store.close()


@pytest.mark.skipif(os.name != "posix", reason="no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "text", "é")
        store = QdrantEdgeDocumentStore(tmp_path / "store", 2)
        store.update_info(a="b")
        store.close()
    finally:
        os.umask(before)
    for file in (tmp_path / "text", tmp_path / "store" / "store.json"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store", "text"]


def test_an_embedding_keeps_its_model_through_a_pipeline(tiny_bloom: Path) -> None:
    import copy
    import pickle
    from dataclasses import replace

    vector = BloomzTextEmbedder(str(tiny_bloom)).run("Où ?")["embedding"]
    (document,) = BloomzDocumentEmbedder(str(tiny_bloom), progress_bar=False).run([Document(content="Ici.")])[
        "documents"
    ]
    assert vector.model == document.embedding.model == ModelIdentity(str(tiny_bloom), weights_of(tiny_bloom))
    for other in (copy.deepcopy(document), replace(document, score=1.0), pickle.loads(pickle.dumps(document))):
        assert isinstance(other.embedding, Embedding)
        assert other.embedding.model == vector.model
        assert other.embedding == document.embedding
    assert json.loads(json.dumps(vector)) == list(vector)
    assert Document.from_dict(document.to_dict()).embedding == list(document.embedding)


def test_another_model_is_refused_by_every_door(tmp_path: Path, make_bloom: Callable[..., Path]) -> None:
    one, other = make_bloom(seed=1), make_bloom(seed=2)
    documents = [Document(content="Le loyer est payé le cinq."), Document(content="Rent is due on the fifth.")]
    path = tmp_path / "store"
    index = Pipeline.loads(index_pipeline(path, model=str(one), embedding_dim=24, progress_bar=False).dumps())
    index.run({"embedder": {"documents": documents}})
    wrong = f"made by the model {one} .*come from {other} .*use the model that made the store"
    right = Pipeline.loads(ask_pipeline(path, model=str(one), ranker="x", embedding_dim=24).dumps())
    right.remove_component("ranker")
    assert len(right.run({"embedder": {"text": "Quand ?"}})["retriever"]["documents"]) == 2
    asking = Pipeline.loads(ask_pipeline(path, model=str(other), ranker="x", embedding_dim=24).dumps())
    asking.remove_component("ranker")
    with pytest.raises(Exception, match=wrong):
        asking.run({"embedder": {"text": "Quand ?"}})
    store = QdrantEdgeDocumentStore(path, 24, hybrid=True)
    vector = BloomzTextEmbedder(str(other)).run("Quand ?")["embedding"]
    with pytest.raises(ValueError, match=wrong):
        store.query_hybrid_batch(["Quand ?"], [vector])
    embedded = BloomzDocumentEmbedder(str(other), progress_bar=False).run(documents)["documents"]
    with pytest.raises(ValueError, match=wrong):
        DocumentWriter(store, DuplicatePolicy.OVERWRITE).run(embedded)
    with pytest.raises(ValueError, match="come from several models"):
        QdrantEdgeDocumentStore(tmp_path / "new", 24).write_documents(
            [embedded[0], Document(content="x", embedding=embedding_of([1.0] * 24, ModelIdentity("a", "b")))]
        )
    assert store.read_info() == {"model": str(one), "model_weights": weights_of(one)}
    assert len(store.query_batch([list(vector)])[0]) == 2  # a plain list says nothing of its model
    store.delete_all_documents()  # an empty store takes any model
    assert DocumentWriter(store, DuplicatePolicy.OVERWRITE).run(embedded)["documents_written"] == 2
    assert store.read_info()["model"] == str(other)
    store.close()


def test_a_model_retrained_in_its_place_is_seen(
    tmp_path: Path, make_bloom: Callable[..., Path], tiny_ranker: Path
) -> None:
    model, store, corpus = tmp_path / "model", tmp_path / "store", tmp_path / "corpus"
    shutil.copytree(make_bloom(seed=1), model)
    corpus.mkdir()
    (corpus / "a.txt").write_text("Le loyer est payé le cinq. Rent is due on the fifth.")
    index_files([corpus], store, IndexSettings(model=str(model)))

    def passages() -> int:
        with Answerer(store, AskSettings(ranker=str(tiny_ranker))) as answerer:
            return len(answerer.ask("Quand ?").passages)

    assert passages() == 1
    shutil.copytree(shutil.copytree(model, tmp_path / "moved"), model, dirs_exist_ok=True)  # the same weights
    assert passages() == 1
    shutil.copytree(make_bloom(seed=2), model, dirs_exist_ok=True)
    gc.collect()  # else this process shares the weights that it has open
    wrong = f"made by other weights of {model} .*the model was changed in its place"
    with pytest.raises(ValueError, match=wrong):
        passages()
    (corpus / "b.txt").write_text("Un autre texte. Another text.")
    with pytest.raises(ValueError, match=wrong):
        index_files([corpus], store, IndexSettings(model=str(model)))


@pytest.mark.slow
def test_several_ask_at_once_and_index_waits(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("Le portail ouvre à sept heures. The gate opens at seven.")
    store = tmp_path / "store"
    index_files([corpus], store, IndexSettings(model="tiny-fr-en-retriever"))
    code = (
        "import sys; from bloomz_haystack import Answerer, AskSettings\n"
        f"settings = AskSettings(wait={SECONDS})\n"
        "print(len(Answerer(sys.argv[1], settings).ask('Quand ouvre le portail ?').passages))"
    )
    commands = [[sys.executable, "-c", code, str(store)]] * 2
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    (corpus / "b.txt").write_text("La cantine ferme à deux heures. The canteen closes at two.")
    assert index_files([corpus], store, IndexSettings(wait=SECONDS)).embedded == 1
    answers = [process.communicate(timeout=SECONDS)[0] for process in running]
    assert all(answer in ("1\n", "2\n") for answer in answers)
