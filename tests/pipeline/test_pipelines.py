"""The two pipelines: YAML equal to Python, loadable anywhere, and the store brought up to date with files."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from haystack import Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy

import bloomz_haystack
from bloomz_haystack import Answerer, AskSettings, ask_pipeline, index_pipeline
from bloomz_haystack.answering import Answer
from bloomz_haystack.indexing.files import find_files
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary, index_files
from bloomz_haystack.settings import IndexSettings
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

FOLDER = Path(bloomz_haystack.__file__).parent
BUILDERS: dict[str, Callable[[], Pipeline]] = {
    "index": index_pipeline,
    "ask": ask_pipeline,
    "index-hybrid": partial(index_pipeline, hybrid=True),
    "ask-hybrid": partial(ask_pipeline, hybrid=True),
}
QUESTIONS = ["Où se trouve la tour Eiffel ?", "Where is the Eiffel tower?"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "fr.txt").write_text("La tour Eiffel se trouve à Paris.")
    (folder / "en.txt").write_text("The Eiffel tower stands in Paris.")
    rows = [{"content": f"Fait numéro {n}"} for n in range(3)] + [{"content": f"Fact number {n}"} for n in range(3)]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def stored_texts(store: Path) -> list[str]:
    documents = QdrantEdgeDocumentStore(str(store), 24)
    texts = sorted(document.content or "" for document in documents.filter_documents())
    documents.close()
    return texts


def ask(question: str, store: Path, **settings: Any) -> Answer:  # noqa: ANN401
    with Answerer(store, AskSettings(**settings)) as answerer:
        return answerer.ask(question)


def counts(summary: IndexSummary) -> tuple[int, int, int, int]:
    return summary.passages, summary.embedded, summary.unchanged, summary.removed


# ---------------------------------------------------------------- YAML and Python


@pytest.mark.parametrize("name", BUILDERS)
def test_yaml_is_what_the_builder_dumps(name: str) -> None:
    loaded = Pipeline.loads((FOLDER / f"{name}.yaml").read_text())
    assert loaded == BUILDERS[name]()
    assert loaded.dumps() == BUILDERS[name]().dumps()
    assert Pipeline.loads(loaded.dumps()) == loaded


def test_every_argument_reaches_its_component() -> None:
    asked = ask_pipeline(
        "s",
        model="m",
        ranker="r",
        embedding_dim=8,
        candidates=30,
        top_k=3,
        threshold=0.0,
        progress_bar=False,
        score_prior=2.0,
    ).to_dict()["components"]
    assert asked["embedder"]["init_parameters"]["model"] == "m"
    assert asked["retriever"]["init_parameters"]["top_k"] == 30
    store = asked["retriever"]["init_parameters"]["document_store"]["init_parameters"]
    assert (store["path"], store["embedding_dim"]) == ("s", 8)
    ranker = asked["ranker"]["init_parameters"]
    names = ("model", "top_k", "score_threshold", "progress_bar", "score_prior")
    assert [ranker[name] for name in names] == ["r", 3, 0.0, False, 2.0]
    indexed = index_pipeline("s", model="m", embedding_dim=8, batch_tokens=9, progress_bar=False)
    embedder = indexed.to_dict()["components"]["embedder"]["init_parameters"]
    assert [embedder[name] for name in ("model", "batch_tokens", "progress_bar")] == ["m", 9, False]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="candidates must be > 0, but got 0"):
        ask_pipeline(candidates=0)
    with pytest.raises(ValueError, match=r"threshold must be a probability from 0 to 1, or \"auto\", but got 1\.5"):
        ask_pipeline(threshold=1.5)


def test_a_new_interpreter_loads_the_yaml_and_importing_is_light() -> None:
    code = (
        "import sys, bloomz_haystack\n"
        "assert not {'torch', 'haystack'} & set(sys.modules), 'import bloomz_haystack is heavy'\n"
        "from haystack import Pipeline\n"
        f"for name in {tuple(BUILDERS)}: print(len(Pipeline.loads(open(rf'{FOLDER}/{{name}}.yaml').read()).graph))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("2\n3\n2\n3\n", 0), done.stderr


# ---------------------------------------------------------------- index


def test_a_second_run_embeds_nothing_and_loads_no_model(corpus: Path, tmp_path: Path, tiny_bloom: Path) -> None:
    store = tmp_path / "store"
    first = index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    assert counts(first) == (8, 8, 0, 0)
    assert (first.files, first.model) == (3, str(tiny_bloom))
    moved = tiny_bloom.rename(tiny_bloom.with_name("elsewhere"))
    try:
        second = index_files([corpus, corpus / "fr.txt"], store)
    finally:
        moved.rename(tiny_bloom)
    assert counts(second) == (8, 0, 8, 0)


def test_the_store_follows_the_files(corpus: Path, tmp_path: Path, tiny_bloom: Path) -> None:
    store = tmp_path / "store"
    index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    (corpus / "fr.txt").write_text("La tour Eiffel mesure 330 mètres.")
    (corpus / "en.txt").unlink()
    (corpus / "copy.txt").write_text("Fait numéro 0")  # the same text in two files is kept twice
    rows = (corpus / "rows.jsonl").read_text().splitlines()
    (corpus / "rows.jsonl").write_text("\n".join([rows[5], *rows[1:5]]))
    assert counts(index_files([corpus], store)) == (7, 2, 5, 2)
    assert "The Eiffel tower stands in Paris." in stored_texts(store)
    assert counts(index_files([corpus], store, IndexSettings(prune=True))) == (7, 0, 7, 1)
    assert stored_texts(store) == [
        *("Fact number 0", "Fact number 1", "Fact number 2", "Fait numéro 0", "Fait numéro 1", "Fait numéro 2"),
        "La tour Eiffel mesure 330 mètres.",
    ]


def test_a_file_that_breaks_keeps_what_was_known_of_it(corpus: Path, tmp_path: Path, tiny_bloom: Path) -> None:
    store = tmp_path / "store"
    before = index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    (corpus / "fr.txt").write_bytes(b"\x00\x01")
    summary = index_files([corpus], store)
    assert [Path(problem.file).name for problem in summary.problems] == ["fr.txt"]
    assert counts(summary) == (7, 0, 7, 0)
    assert len(stored_texts(store)) == before.passages
    (corpus / "fr.txt").write_bytes(b"")
    emptied = index_files([corpus], store)
    assert [Path(name).name for name in emptied.empty] == ["fr.txt"]
    assert counts(emptied) == (7, 0, 7, 1)


def test_other_passage_words_replace_the_passages(tmp_path: Path, tiny_bloom: Path) -> None:
    file, store = tmp_path / "a.txt", tmp_path / "store"
    file.write_text(" ".join(f"mot{n}" for n in range(100)))
    index_files([file], store, IndexSettings(model=str(tiny_bloom), passage_words=20))
    summary = index_files([file], store, IndexSettings(passage_words=150))
    assert counts(summary) == (1, 1, 0, 6)  # they began at words 0, 18, 36, 54, 72, 90
    assert stored_texts(store) == [file.read_text()]


def test_another_model_is_refused_by_both_verbs(
    corpus: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    with pytest.raises(ValueError, match=f"was made with the model {tiny_bloom}"):
        index_files([corpus], store, IndexSettings(model=str(tiny_ranker)))
    with pytest.raises(ValueError, match=f"was made with the model {tiny_bloom}"):
        ask("Où ?", store, ranker=str(tiny_ranker), model="cmarkea/bloomz-560m-retriever-v2")
    monkeypatch.chdir(tiny_bloom.parent)  # the same folder under another name
    assert counts(index_files([corpus], store, IndexSettings(model=f"./{tiny_bloom.name}"))) == (8, 0, 8, 0)


def test_a_model_that_cannot_be_loaded_leaves_no_store(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot load 'nobody/nothing'"):
        index_files([corpus], tmp_path / "store", IndexSettings(model="nobody/nothing"))
    assert not (tmp_path / "store").exists()


def test_blocks_are_written_one_by_one(tmp_path: Path, tiny_bloom: Path) -> None:
    file, store = tmp_path / "rows.jsonl", tmp_path / "store"
    file.write_text("\n".join(json.dumps({"content": f"Fait {n}, fact {n}"}) for n in range(100)))
    seen: list[int] = []

    class Seen(IndexProgress):
        def started(self, total_bytes: int) -> None:
            assert total_bytes == file.stat().st_size == find_files([file], store).bytes

        def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
            seen.append(summary.embedded)

        def problem(self, problem: object) -> None:
            raise AssertionError(problem)

    index_files([file], store, IndexSettings(model=str(tiny_bloom)), progress=Seen())
    assert seen[0] == 16
    assert seen[-1] == 100
    assert len(seen) >= 3


def test_any_pipeline_indexes_into_any_store(corpus: Path, tmp_path: Path, tiny_bloom: Path) -> None:
    """The same passages as in the shipped store, and the same counts run after run."""
    memory = InMemoryDocumentStore()
    pipeline = Pipeline()
    pipeline.add_component("vectors", BloomzDocumentEmbedder(str(tiny_bloom), progress_bar=False))
    pipeline.add_component("last", DocumentWriter(memory, policy=DuplicatePolicy.OVERWRITE))
    pipeline.connect("vectors.documents", "last.documents")

    def both(**settings: Any) -> None:  # noqa: ANN401
        shipped = index_files([corpus], tmp_path / "store", IndexSettings(model=str(tiny_bloom), **settings))
        given = index_files([corpus], tmp_path / "list", IndexSettings(**settings), pipeline=pipeline)
        assert counts(given) == counts(shipped)
        store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 24)
        expected = {document.id: document for document in store.filter_documents()}
        store.close()
        found = {document.id: document for document in memory.filter_documents()}
        assert {(id_, d.content, str(d.meta)) for id_, d in found.items()} == {
            (id_, d.content, str(d.meta)) for id_, d in expected.items()
        }
        for id_, document in found.items():
            assert document.embedding == pytest.approx(expected[id_].embedding, abs=1e-5)

    both()
    both()
    (corpus / "fr.txt").write_text("La tour Eiffel mesure 330 mètres.")
    (corpus / "en.txt").unlink()
    both()
    both(prune=True)
    with pytest.raises(ValueError, match="from an input `documents` to a writer"):
        index_files([corpus], tmp_path / "list", pipeline=ask_pipeline())


# ---------------------------------------------------------------- ask


@pytest.mark.parametrize("question", QUESTIONS)
def test_answer_is_that_of_the_pipeline(
    question: str, corpus: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    store = tmp_path / "store"
    index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    answer = ask(question, store, ranker=str(tiny_ranker), candidates=6, top_k=3)
    pipeline = ask_pipeline(
        store, model=str(tiny_bloom), ranker=str(tiny_ranker), embedding_dim=24, candidates=6, top_k=3
    )
    inputs = {"embedder": {"text": question}, "ranker": {"query": question}}
    outputs = pipeline.run(inputs, include_outputs_from={"retriever"})
    pipeline.get_component("retriever").document_store.close()  # type: ignore[attr-defined]
    cosines = {document.id: document.score for document in outputs["retriever"]["documents"]}
    assert len(cosines) == 6
    expected = [(doc.id, doc.score, cosines[doc.id]) for doc in outputs["ranker"]["documents"]]
    assert [(passage.id, passage.score, passage.similarity) for passage in answer.passages] == expected
    assert len(expected) == 3
    assert all(score != cosine for _, score, cosine in expected)
    assert set(answer.seconds) == {"embed", "retrieve", "rank", "read"}
    assert all(seconds > 0 for seconds in answer.seconds.values())


def test_words_are_searched_whenever_the_store_keeps_them(
    corpus: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    store, question, settings = tmp_path / "store", QUESTIONS[1], {"ranker": str(tiny_ranker), "candidates": 6}
    index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    assert not ask(question, store, **settings).hybrid
    with pytest.raises(
        ValueError, match=r"keeps no words to search: add them with bloomz index PATH --store .* --hybrid"
    ):
        ask(question, store, hybrid=True, **settings)
    assert counts(index_files([corpus], store, IndexSettings(hybrid=True))) == (8, 0, 8, 0)  # nothing is embedded again
    (corpus / "more.txt").write_text("Gustave Eiffel built towers.")
    assert counts(index_files([corpus], store)) == (9, 1, 8, 0)  # and words go on being kept
    answer = ask(question, store, **settings)
    assert answer.hybrid
    pipeline = Pipeline.loads(
        ask_pipeline(
            store, model=str(tiny_bloom), ranker=str(tiny_ranker), embedding_dim=24, candidates=6, hybrid=True
        ).dumps()
    )
    inputs = {"embedder": {"text": question}, "retriever": {"query": question}, "ranker": {"query": question}}
    outputs = pipeline.run(inputs, include_outputs_from={"retriever"})
    pipeline.get_component("retriever").document_store.close()  # type: ignore[attr-defined]
    fused = {document.id: document.score for document in outputs["retriever"]["documents"]}
    expected = [(document.id, document.score, fused[document.id]) for document in outputs["ranker"]["documents"]]
    assert [(passage.id, passage.score, passage.similarity) for passage in answer.passages] == expected
    texts = [document.content or "" for document in outputs["retriever"]["documents"]]
    assert sum("tower" in text for text in texts[:2]) == 2  # by their words
    assert not ask(question, store, hybrid=False, **settings).hybrid


def test_top_k_above_candidates_raises_the_candidates(
    corpus: Path, tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path
) -> None:
    index_files([corpus], tmp_path / "store", IndexSettings(model=str(tiny_bloom)))
    answer = ask("Où ?", tmp_path / "store", ranker=str(tiny_ranker), candidates=2, top_k=7)
    assert len(answer.passages) == 7


def test_an_empty_store_answers_nothing(tmp_path: Path, tiny_bloom: Path, tiny_ranker: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    index_files([tmp_path / "a.txt"], tmp_path / "store", IndexSettings(model=str(tiny_bloom)))
    answer = ask("Où ?", tmp_path / "store", ranker=str(tiny_ranker))
    assert (answer.stored, answer.passages) == (0, [])


def test_a_store_made_without_the_application_needs_a_model_name(tmp_path: Path, tiny_ranker: Path) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 24)
    store.open()
    store.close()
    with pytest.raises(ValueError, match="does not say which model made it: name it with --model"):
        ask("Où ?", tmp_path / "store", ranker=str(tiny_ranker))


def test_a_damaged_store_says_so(corpus: Path, tmp_path: Path, tiny_bloom: Path) -> None:
    store = tmp_path / "store"
    index_files([corpus], store, IndexSettings(model=str(tiny_bloom)))
    (store / "store.json").write_text("{")
    with pytest.raises(DocumentStoreError, match="is damaged"):
        ask("Où ?", store, ranker="r")
