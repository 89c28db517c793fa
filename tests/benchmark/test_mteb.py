"""Our retrievers in ``mteb``, offline: its own mock task, and a bilingual task of ours whose figures are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bloomz_haystack.benchmark import mteb_run
from bloomz_haystack.benchmark.mteb_model import MtebRetriever, model_metas
from bloomz_haystack.benchmark.mteb_run import FRENCH_TASKS, measure_mteb, mteb_tasks
from bloomz_haystack.cli import main as cli
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder

mteb = pytest.importorskip("mteb")

PASSAGES = {
    "p1": "La tour Eiffel se trouve à Paris, au bord de la Seine.",
    "p2": "The Eiffel tower stands in Paris.",
    "p3": "Big Ben sonne à Londres.",
    "p4": "The Loire is the longest river in France.",
}
QUESTIONS = {"q1": "Où se trouve la tour Eiffel ?", "q2": "Which river is the longest?", "q3": "Où sonne Big Ben ?"}
ANSWERS = {"q1": "p1", "q2": "p4", "q3": "p3"}


def bilingual_task() -> Any:  # noqa: ANN401
    """A retrieval task over texts of ours: nothing is loaded from anywhere."""
    from datasets import Dataset
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask

    class Bilingual(MockRetrievalTask):
        metadata = MockRetrievalTask.metadata.model_copy(update={"name": "Bilingual", "eval_splits": ["test"]})

        def load_data(self, **_: Any) -> None:  # noqa: ANN401
            split = RetrievalSplitData(
                queries=Dataset.from_list([{"id": key, "text": text} for key, text in QUESTIONS.items()]),
                corpus=Dataset.from_list([{"id": key, "text": text, "title": ""} for key, text in PASSAGES.items()]),
                relevant_docs={question: {passage: 1} for question, passage in ANSWERS.items()},
                top_ranked=None,
            )
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Bilingual()


def scores_of(model: MtebRetriever, task: Any) -> dict[str, float]:  # noqa: ANN401
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    scores: dict[str, float] = result.task_results[0].scores["test"][0]
    return scores


def test_a_task_of_ours_gives_the_plain_figures(tiny_bloom: Path) -> None:
    encoder = Encoder(open_checkpoint(str(tiny_bloom), "embed"))
    passages, questions = encoder.encode(list(PASSAGES.values())), encoder.encode(list(QUESTIONS.values()))
    order = [[list(PASSAGES)[place] for place in np.argsort(-row)] for row in questions @ passages.T]
    ranks = [1 + row.index(ANSWERS[question]) for row, question in zip(order, QUESTIONS, strict=True)]
    assert len(set(ranks)) > 1  # else a constant would pass
    scores = scores_of(MtebRetriever(str(tiny_bloom)), bilingual_task())
    assert scores["mrr_at_10"] == pytest.approx(np.mean([1 / rank for rank in ranks]), abs=1e-5)
    assert scores["ndcg_at_10"] == pytest.approx(np.mean([1 / np.log2(1 + rank) for rank in ranks]), abs=1e-5)
    assert scores["hit_rate_at_1"] == pytest.approx(np.mean([rank == 1 for rank in ranks]), abs=1e-5)


def test_mteb_takes_it_for_an_encoder_and_knows_what_it_is(tiny_bloom: Path) -> None:
    from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask
    from mteb.models import EncoderProtocol

    model = MtebRetriever(str(tiny_bloom))
    assert isinstance(model, EncoderProtocol)
    assert 0 <= scores_of(model, MockRetrievalTask())["ndcg_at_10"] <= 1
    meta = model.mteb_model_meta
    assert meta.name == f"bloomz-haystack/{tiny_bloom.name}"
    assert (meta.embed_dim, meta.max_tokens, meta.similarity_fn_name) == (24, 2048, "cosine")
    assert len(meta.revision) == 64
    vectors = model.encode([{"text": ["Un pont.", "A bridge."]}, {"text": [""]}])
    assert vectors.shape == (3, 24)
    np.testing.assert_allclose(model.similarity(vectors, vectors).numpy(), vectors @ vectors.T, atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(vectors, vectors).numpy(), np.ones(3), atol=1e-6)


def test_metas_are_whole_and_the_loader_opens_the_bundled_model() -> None:
    metas = {meta.name: meta for meta in model_metas()}
    assert {
        name: (meta.n_parameters, meta.embed_dim) for name, meta in metas.items() if name.startswith("cmarkea/")
    } == {
        "cmarkea/bloomz-560m-retriever-v2": (559_214_592, 1024),
        "cmarkea/bloomz-3b-retriever-v2": (3_002_557_440, 2560),
    }
    for meta in metas.values():
        assert meta.n_embedding_parameters < meta.n_parameters
        assert meta.similarity_fn_name == "cosine"
        for task in meta.training_datasets:
            assert mteb.get_task(task).metadata.name == task  # names that mteb knows, else it cannot warn of them
    bundled = metas["bloomz-haystack/tiny-fr-en-retriever"]
    model = bundled.load_model(device="cpu")
    vectors = model.encode([{"text": ["Où est la gare ?", "Where is the station?"]}])
    assert vectors.shape == (2, bundled.embed_dim)
    own = Encoder(open_checkpoint("tiny-fr-en-retriever", "embed")).encode(["Where is the station?"])
    np.testing.assert_allclose(vectors[1:], own, atol=1e-5)
    opened = MtebRetriever("tiny-fr-en-retriever").mteb_model_meta
    assert opened.model_dump(exclude={"loader", "loader_kwargs"}) == bundled.model_dump(
        exclude={"loader", "loader_kwargs"}
    )


@pytest.mark.slow  # mteb builds all its benchmarks for one
def test_the_french_list_is_that_of_mteb_in_french_and_english_only() -> None:
    tasks = {task.metadata.name: task for task in mteb_tasks(["french", "SyntecRetrieval"])}
    assert list(tasks) == list(FRENCH_TASKS)
    wanted = {
        task.metadata.name
        for task in mteb.get_benchmark("MTEB(fra, v1)").tasks
        if task.metadata.type in ("Retrieval", "Reranking")
    }
    assert wanted == set(list(FRENCH_TASKS)[: len(wanted)])
    assert set(tasks["XPQARetrieval"].hf_subsets) == {"fra-fra", "eng-fra", "fra-eng"}


def test_the_folder_is_the_one_that_mteb_reads(tiny_bloom: Path, tmp_path: Path) -> None:
    model, task = MtebRetriever(str(tiny_bloom)), bilingual_task()
    (score,) = measure_mteb(model, [task], tmp_path)
    assert (score.task, score.metric) == ("Bilingual", "ndcg_at_10")
    assert score.score == pytest.approx(100 * scores_of(model, task)["ndcg_at_10"])
    folder = tmp_path / "results" / f"bloomz-haystack__{tiny_bloom.name}" / model.mteb_model_meta.revision
    assert json.loads((folder / "model_meta.json").read_text())["name"] == f"bloomz-haystack/{tiny_bloom.name}"
    kept = json.loads((folder / "Bilingual.json").read_text())["scores"]["test"][0]
    assert 100 * kept["main_score"] == pytest.approx(score.score, abs=1e-3)
    written = (folder / "Bilingual.json").stat().st_mtime_ns
    assert measure_mteb(model, [task], tmp_path) == [score]
    assert (folder / "Bilingual.json").stat().st_mtime_ns == written  # read, not measured again


def test_the_command(tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["benchmark", "mteb", "--model", str(tiny_bloom), "--out", str(tmp_path), "--tasks"]
    unknown = CliRunner().invoke(cli.app, [*arguments, "AloprofRetrieval"])
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (2, 1)
    assert "Did you mean: 'AlloprofRetrieval'?" in unknown.stderr
    task = bilingual_task()
    monkeypatch.setattr(mteb_run, "mteb_tasks", lambda names: [task] if names == ["Bilingual"] else [])
    done = CliRunner().invoke(cli.app, [*arguments, "Bilingual", "--json"])
    assert done.exit_code == 0, done.stderr
    (score,) = json.loads(done.stdout)["scores"]
    assert (score["task"], score["metric"]) == ("Bilingual", "ndcg_at_10")
    assert (tmp_path / "results" / f"bloomz-haystack__{tiny_bloom.name}").is_dir()
