"""Our retrievers in ``mteb``, offline: its own mock task, and a bilingual task of ours whose figures are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloomz_haystack.benchmark.mteb_model import MtebRetriever
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
