"""One truth per model: whatever door a question comes through, the same passages in the same order, the same scores."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from haystack import Document, Pipeline
from typer.testing import CliRunner

import bloomz_haystack
from bloomz_haystack import Answerer, AskSettings, IndexSettings, ask_pipeline
from bloomz_haystack.cli import main as cli
from bloomz_haystack.indexing.index import index_files
from haystack_integrations.common.bloomz.checkpoint import BUNDLED_FOLDER, BUNDLED_RANKER, BUNDLED_RETRIEVER

RETRIEVER, RANKER, DIMENSION = BUNDLED_RETRIEVER, BUNDLED_RANKER, 576
QUESTIONS = ["Quand a eu lieu le grand incendie de Londres ?", "How long is a French passport valid?"]
FOLDER = Path(bloomz_haystack.__file__).parent
Scored = list[tuple[str, float]]

pytestmark = pytest.mark.skipif(
    not all((BUNDLED_FOLDER / name / "model.safetensors").exists() for name in (RETRIEVER, RANKER)),
    reason="the bundled weights are not in this tree",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doors") / "store"
    index_files([FOLDER / "examples"], folder, IndexSettings(model=RETRIEVER, hybrid=True))
    return folder


def scored(documents: list[Document]) -> Scored:
    return [(document.id, document.score or 0.0) for document in documents]


def through_yaml(name: str) -> Callable[[Path, str], Scored]:
    """The file that is shipped, with the names, the path and the dimension filled in; as its first lines say."""

    def door(store: Path, question: str) -> Scored:
        data = yaml.safe_load((FOLDER / name).read_text())
        components = data["components"]
        components["embedder"]["init_parameters"]["model"] = RETRIEVER
        components["ranker"]["init_parameters"]["model"] = RANKER
        where = components["retriever"]["init_parameters"]["document_store"]["init_parameters"]
        where.update(path=str(store), embedding_dim=DIMENSION)
        return run(Pipeline.loads(yaml.safe_dump(data)), question, "hybrid" in name)

    return door


def run(pipeline: Pipeline, question: str, hybrid: bool) -> Scored:
    words = {"retriever": {"query": question}} if hybrid else {}
    outputs = pipeline.run({"embedder": {"text": question}, "ranker": {"query": question}, **words})
    pipeline.get_component("retriever").document_store.close()  # type: ignore[attr-defined]
    return scored(outputs["ranker"]["documents"])


def through_builder(hybrid: bool) -> Callable[[Path, str], Scored]:
    def door(store: Path, question: str) -> Scored:
        models = {"model": RETRIEVER, "ranker": RANKER, "embedding_dim": DIMENSION, "hybrid": hybrid}
        return run(ask_pipeline(store, **models), question, hybrid)  # type: ignore[arg-type]

    return door


def through_answerer(hybrid: bool) -> Callable[[Path, str], Scored]:
    def door(store: Path, question: str) -> Scored:
        with Answerer(store, AskSettings(hybrid=hybrid)) as answerer:  # RANKER is the default
            return [(passage.id, passage.score) for passage in answerer.ask(question).passages]

    return door


def through_command_line(hybrid: bool) -> Callable[[Path, str], Scored]:
    def door(store: Path, question: str) -> Scored:
        flag = "--hybrid" if hybrid else "--no-hybrid"
        done = CliRunner().invoke(cli.app, ["ask", question, "--store", str(store), "--json", flag])
        return [(passage["id"], passage["score"]) for passage in json.loads(done.stdout)["documents"]]

    return door


DOORS = {
    False: [through_yaml("ask.yaml"), through_builder(False), through_answerer(False), through_command_line(False)],
    True: [through_yaml("ask-hybrid.yaml"), through_builder(True), through_answerer(True), through_command_line(True)],
}


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("question", QUESTIONS)
def test_all_doors_answer_alike(hybrid: bool, question: str, store: Path) -> None:
    answers = [door(store, question) for door in DOORS[hybrid]]
    assert len(answers[0]) == 5
    for answer in answers:
        assert [id_ for id_, _ in answer] == [id_ for id_, _ in answers[0]]
        assert [score for _, score in answer] == pytest.approx([score for _, score in answers[0]], abs=1e-6)


def test_the_benchmark_ranks_as_they_do(tmp_path: Path) -> None:
    """Its second stage reads the same prior from the same config.json."""
    texts = [f"La rue numéro {n} mène à la gare. Street {n} leads to the station." for n in range(8)]
    texts += ["Le pont de Brest est fermé le lundi.", "The bridge at Brest closes on Mondays."]
    questions = [*(f"Où mène la rue {n} ?" for n in range(8)), "Quand le pont ferme-t-il ?", "When is the bridge shut?"]
    paragraphs = [
        {"context": text, "qas": [{"id": str(n), "question": questions[n], "is_impossible": False, "answers": []}]}
        for n, text in enumerate(texts)
    ]
    (tmp_path / "c.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    arguments = ["benchmark", "quality", "--corpus", "squad", "--data", str(tmp_path / "c.json"), "--candidates", "10"]
    arguments += ["--systems", RETRIEVER, "--rerank", RANKER, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.stderr
    (rows,) = (tmp_path / "out" / "rows").glob(f"*{RANKER}*.jsonl")
    (tmp_path / "passages.jsonl").write_text("".join(json.dumps({"content": text}) + "\n" for text in texts))
    index_files([tmp_path / "passages.jsonl"], tmp_path / "store", IndexSettings(model=RETRIEVER))
    with Answerer(tmp_path / "store", AskSettings(candidates=10, top_k=10)) as answerer:
        for n, row in enumerate(map(json.loads, rows.read_text().splitlines())):
            passages = answerer.ask(questions[n]).passages
            assert passages[0].content == texts[row["first"]]
            assert passages[0].score == pytest.approx(row["score"], abs=1e-6)
            (gold,) = [passage.score for passage in passages if passage.content == texts[n]]
            assert gold == pytest.approx(row["gold_probability"], abs=1e-6)
