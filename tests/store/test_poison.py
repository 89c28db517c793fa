"""What was accepted can be read again, whatever it was; what cannot is refused at the door, in one line."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeEmbeddingRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

EVERY_TIME_THE_SAME = settings(
    deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a writer is killed in a forked child")

# Any character at all, lone surrogates and NUL included; names that mean something to Edge or to us.
texts = st.text(st.characters(exclude_categories=[]), max_size=20)
names = st.sampled_from(["", ".", "a.b", "a[0]", '"', "\\", "%22", "facts", "norm", "meta", "id", "\x00", "é" * 2000])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dates()
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | names, inner), max_leaves=8
)


def nested(depth: int, kind: type) -> object:
    """A value `depth` levels below a dictionary or list."""
    value: object = "fond"
    for _ in range(depth):
        value = [value] if kind is list else {"k": value}
    return value


deep = st.builds(nested, st.sampled_from([50, 63, 64, 110, 130, 400]), st.sampled_from([list, dict]))
metas = st.dictionaries(texts | names, values | deep, max_size=4)
documents = st.builds(
    Document,
    id=texts | st.just("i" * 100_000),
    content=st.none() | texts,
    meta=metas,
    embedding=st.none() | st.lists(st.floats(width=32), min_size=2, max_size=2),
    score=st.none() | st.floats(),
    blob=st.none() | st.builds(ByteStream, st.binary(max_size=9), meta=metas, mime_type=st.none() | texts),
)


@pytest.fixture
def store(tmp_path: Path) -> QdrantEdgeDocumentStore:
    return QdrantEdgeDocumentStore(str(tmp_path / "store"), 2)


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is room: no disk to wait for, and no power to fail."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and shutil.disk_usage(memory).free > 1e9):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def in_killed_child(work: Callable[[], str]) -> str:
    """What `work` said in a process of its own, which was then killed without warning."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "died"
        try:
            said = work()
        finally:
            os.write(write, said.encode())
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def same(found: object, wanted: object) -> bool:
    """Whether JSON values are equal; Edge's log gives a float back to the last bit but one."""
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict) and found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(same, found, wanted))
    return found == (pytest.approx(wanted, rel=1e-15) if isinstance(wanted, float) else wanted)


def write_each(store: QdrantEdgeDocumentStore, batch: list[Document], more: dict[str, Any]) -> str:
    """Write documents one by one, then update one: "a" for each that was accepted, "r" for each that was refused."""
    said = ""
    for document in batch:
        try:
            store.write_documents([document], DuplicatePolicy.OVERWRITE)
            said += "a"
        except (ValueError, TypeError) as error:
            said += "r" if "\n" not in str(error) else "?"
    store.write_documents([Document(id="témoin", content="le loyer", embedding=[1.0, 2.0])], DuplicatePolicy.OVERWRITE)
    try:
        store.update_by_filter({"field": "id", "operator": "==", "value": "témoin"}, more)
    except ValueError:
        return said + "r"
    return said + "a"


@needs_fork
@pytest.mark.parametrize("hybrid", [False, True])
def test_no_accepted_input_makes_a_store_unreadable(memory_folder: Path, hybrid: bool) -> None:
    store = QdrantEdgeDocumentStore(memory_folder / "store", 2, hybrid=hybrid)

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(batch=st.lists(documents, min_size=1, max_size=6, unique_by=lambda document: document.id), more=metas)
    def check(batch: list[Document], more: dict[str, Any]) -> None:
        try:
            said = in_killed_child(lambda: write_each(store, batch, more))
            assert set(said) <= {"a", "r"}
            accepted = [document for document, fate in zip(batch, said, strict=False) if fate == "a"]
            found = {document.id: document for document in store.filter_documents()}
            for document in accepted:
                assert same(found[document.id].meta, document.meta)
                assert found[document.id].content == document.content
            assert same(found["témoin"].meta, more if said[-1] == "a" else {})
            assert store.query_batch([[1.0, 2.0]], top_k=9)[0] != []
        except BaseException:
            store.close()
            shutil.rmtree(store.folder)  # the next example begins with a whole store
            raise
        store.close()

    check()


@pytest.mark.parametrize("kind", [list, dict])
def test_metadata_reads_back_to_64_levels_and_is_refused_beyond(store: QdrantEdgeDocumentStore, kind: type) -> None:
    store.write_documents([Document(id="à la limite", meta={"m": nested(63, kind)})])
    for depth in (64, 122, 300, 900):
        with pytest.raises(ValueError, match=r"document 'profond' cannot be stored: meta\.m.* more than 64 levels"):
            store.write_documents([Document(id="bon"), Document(id="profond", meta={"m": nested(depth, kind)})])
        with pytest.raises(ValueError, match=r"document 'à la limite' cannot be stored: meta\.m.*64 levels"):
            store.update_by_filter({}, {"m": nested(depth, kind)})
    blob = ByteStream(b"x", meta={"m": nested(200, kind)})
    with pytest.raises(ValueError, match=r"document 'blob' cannot be stored: blob\.meta\.m.*64 levels"):
        store.write_documents([Document(id="blob", blob=blob)])
    store.close()
    (kept,) = store.filter_documents()
    assert kept.meta == {"m": nested(63, kind)}
    store.close()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"meta": {"a": ["\ud800"]}}, "it holds a lone surrogate"),
        ({"meta": {"\ud800": 1}}, "it holds a lone surrogate"),
        ({"blob": ByteStream(b"", mime_type="\udfff")}, "it holds a lone surrogate"),
        ({"blob": ByteStream(b"", meta={"x": float("nan")})}, r"blob\.meta\.x is nan"),
        ({"sparse_embedding": SparseEmbedding([2**70], [1.0])}, r"sparse_embedding\.indices\[0\] is 118"),
        ({"score": float("inf")}, "score is inf"),
        ({"meta": [1]}, "meta must be a dictionary, but got"),
    ],
)
def test_what_would_not_come_back_is_refused_by_name(
    store: QdrantEdgeDocumentStore, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^document 'mauvais' cannot be stored: {reason}") as caught:
        store.write_documents([Document(id="bon"), Document(id="mauvais", **fields)])
    assert "\n" not in str(caught.value)
    assert store.count_documents() == 0
    store.close()


@pytest.mark.parametrize(
    ("embedding", "reason"), [(["a", "b"], "could not convert"), ([10**400, 1], "too large"), ([1j, 1], "complex")]
)
def test_an_embedding_that_is_not_numbers_names_its_document(
    store: QdrantEdgeDocumentStore, embedding: list[float], reason: str
) -> None:
    good = Document(id="bon", embedding=[1.0, 2.0])
    with pytest.raises(ValueError, match=f"document 'mauvais' has an embedding that is not made of numbers .*{reason}"):
        store.write_documents([good, Document(id="mauvais", embedding=embedding)])
    store.close()


def test_identifiers_that_no_document_can_have(store: QdrantEdgeDocumentStore) -> None:
    store.write_documents([Document(id="a")])
    for call in (store.existing_ids, store.delete_documents):
        with pytest.raises(ValueError, match="holds a lone surrogate"):
            call(["a", "\ud800"])
        with pytest.raises(TypeError, match="the id of a document must be a string, but got 5 of type int"):
            call(["a", 5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="must be a list of identifiers"):
        store.delete_documents("a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="meta must be a dictionary, but got None"):
        store.update_by_filter({}, None)  # type: ignore[arg-type]
    assert store.count_documents() == 1
    store.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("meta.a", "\ud800"), ("meta.\ud800", 1), ("meta.a", nested(5000, list)), ("meta." + "a" * 1000, 1)],
)
def test_a_filter_that_nothing_can_match_is_malformed(
    store: QdrantEdgeDocumentStore, field: str, value: object
) -> None:
    for operator in ("==", "!=", "in", "not in"):
        wanted = [value] if "in" in operator else value
        with pytest.raises(FilterError) as caught:
            store.count_documents_by_filter({"field": field, "operator": operator, "value": wanted})
        assert "\n" not in str(caught.value)
    store.close()


@pytest.mark.parametrize(
    ("top_k", "error"), [("3", TypeError), (2.5, TypeError), (True, TypeError), (2**64, ValueError), (0, ValueError)]
)
def test_a_number_of_documents_that_is_none(store: QdrantEdgeDocumentStore, top_k: int, error: type[Exception]) -> None:
    store.write_documents([Document(id="a", embedding=[1.0, 2.0])])
    retriever = QdrantEdgeEmbeddingRetriever(store)
    for call in (
        lambda: retriever.run([1.0, 2.0], top_k=top_k),
        lambda: QdrantEdgeEmbeddingRetriever(store, top_k=top_k),
        lambda: store.query_batch([[1.0, 2.0]], top_k=top_k),
        lambda: store.query_hybrid_batch(["a"], [[1.0, 2.0]], top_k=top_k),
        lambda: store.query_hybrid_batch(["a"], [[1.0, 2.0]], candidates=top_k),
    ):
        with pytest.raises(error, match=r"(top_k|candidates) must be "):
            call()
    assert [document.id for document in retriever.run([1.0, 2.0], top_k=10**9)["documents"]] == ["a"]
    with pytest.raises(TypeError, match="score_threshold must be a number or None"):
        retriever.run([1.0, 2.0], score_threshold="0.5")  # type: ignore[arg-type]
    store.close()


def test_a_path_is_written_as_text(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(tmp_path / "é", 2)
    assert store.path == str(tmp_path / "é")
    assert QdrantEdgeDocumentStore.from_dict(store.to_dict()).to_dict() == store.to_dict()
    assert store.to_dict()["init_parameters"]["path"] == str(tmp_path / "é")
    with pytest.raises(TypeError, match="path must be a string or a Path, but got None"):
        QdrantEdgeDocumentStore(None, 2)  # type: ignore[arg-type]
