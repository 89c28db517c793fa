"""The ranker as users of Haystack meet it."""

import logging
import shutil
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.utils import ComponentDevice, Secret
from transformers import pipeline

from bloomz_haystack.benchmark.corpora.corpora import read_corpus
from bloomz_haystack.benchmark.run.ranking import rank_vectors
from bloomz_haystack.benchmark.run.second_stage import rerank_passages
from bloomz_haystack.benchmark.systems.cross_encoders import open_cross_encoder
from bloomz_haystack.benchmark.systems.systems import choose_ranker
from haystack_integrations.common.bloomz.checkpoint import CheckpointError, open_checkpoint
from haystack_integrations.common.bloomz.scorer import Scorer, probabilities, with_score_prior, with_score_share
from haystack_integrations.components.rankers.bloomz import BloomzRanker

SMALL_SQUAD = Path(__file__).parents[2] / "notebooks" / "small-squad"
MakeBloom = Callable[..., Path]

CPU = ComponentDevice.from_str("cpu")
QUESTION = "Où est la tour Eiffel ? Where is the Eiffel tower?"
TEXTS = ["La tour Eiffel est à Paris.", "Big Ben is in London.", "é", "The Alhambra " * 30, "Granada", "Londres"]

EVERY_PARAMETER: dict[str, Any] = {
    "model": "some/model",
    "device": ComponentDevice.from_str("cuda:1"),
    "token": Secret.from_env_var("SOME_TOKEN"),
    "top_k": 3,
    "query_prefix": "question : ",
    "query_suffix": " ?",
    "document_prefix": "passage : ",
    "document_suffix": " .",
    "meta_fields_to_embed": ["titre", "title"],
    "embedding_separator": " | ",
    "scale_score": False,
    "score_threshold": 0.0,
    "model_kwargs": {"dtype": "bfloat16"},
    "tokenizer_kwargs": {"eos_token": "</s>"},
    "config_kwargs": {"seq_length": 77},
    "revision": "v2",
    "local_files_only": True,
    "progress_bar": False,
    "max_length": 99,
    "batch_tokens": 512,
    "precision": "int8",
    "prefix_cache": "512MB",
    "prefix_cache_folder": "kept",
    "prefix_cache_dtype": "int8",
    "score_prior": 0.5,
    "truncate": False,
    "merge_copies": True,
}


class Quiet:
    """Shows nothing."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        return lambda done: None


def documents() -> list[Document]:
    return [Document(content=text, score=0.1 * n) for n, text in enumerate(TEXTS)]


@pytest.fixture
def ranker(tiny_ranker: Path) -> BloomzRanker:
    return BloomzRanker(str(tiny_ranker), device=CPU)


def by_pipeline(folder: Path, question: str, texts: list[str]) -> list[float]:
    classify = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    answers = [classify({"text": text, "text_pair": question}) for text in texts]
    return [next(row["score"] for row in rows if row["label"] == "LABEL_1") for rows in answers]


def scores_of(ranked: dict[str, Any]) -> dict[str, float]:
    return {document.content: document.score for document in ranked["documents"]}


def test_scores_and_order_are_those_of_the_model_card(tiny_ranker: Path, ranker: BloomzRanker) -> None:
    expected = by_pipeline(tiny_ranker, QUESTION, TEXTS)
    ranked = ranker.run(query=QUESTION, documents=documents())
    assert [document.content for document in ranked["documents"]] == [TEXTS[i] for i in np.argsort(expected)[::-1]]
    for text, score in zip(TEXTS, expected, strict=True):
        assert scores_of(ranked)[text] == pytest.approx(score, abs=1e-5)
    assert {type(document.score) for document in ranked["documents"]} == {float}


def test_unscaled_scores_are_log_odds(ranker: BloomzRanker) -> None:
    probability = scores_of(ranker.run(query=QUESTION, documents=documents()))
    log_odds = scores_of(ranker.run(query=QUESTION, documents=documents(), scale_score=False))
    assert list(probability) == list(log_odds), "the order does not depend on the scale"
    for text, p in probability.items():
        assert np.log(p / (1 - p)) == pytest.approx(log_odds[text], abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "weight", "lowered"),
    [
        ([10.0, 20.0, 18.0], 6.0, [3.0, 0.0, 0.6]),  # BM25
        ([0.1, 0.2, 0.18], 6.0, [3.0, 0.0, 0.6]),  # the same ratios as cosines
        ([0.5, -0.5, 0.0], 2.0, [0.0, 2.0, 2.0]),  # no score counts below 0
        ([0.3, 0.3, 0.3], 6.0, [0.0, 0.0, 0.0]),
        ([0.0, -1.0, 0.0], 6.0, [0.0, 0.0, 0.0]),  # best <= 0: no scale
        ([-0.2, -0.1, -0.4], 6.0, [0.0, 0.0, 0.0]),
        ([1.0, 2.0, 3.0], 0.0, [0.0, 0.0, 0.0]),
        ([0.7], 6.0, [0.0]),
        ([[1.0, 2.0], [-1.0, -2.0], [4.0, 1.0]], 4.0, [[2.0, 0.0], [0.0, 0.0], [0.0, 3.0]]),
        ([], 6.0, []),
    ],
)
def test_a_score_prior_by_hand(scores: list[Any], weight: float, lowered: list[Any]) -> None:
    alone = np.arange(np.size(scores), dtype=np.float32).reshape(np.shape(scores))
    mixed = with_score_prior(alone, np.array(scores), weight)
    np.testing.assert_allclose(mixed, alone - np.array(lowered), atol=1e-6)
    assert mixed.dtype == np.float32


def test_a_score_prior_lowers_the_log_odds_by_the_incoming_scores(tiny_ranker: Path, ranker: BloomzRanker) -> None:
    alone = scores_of(ranker.run(query=QUESTION, documents=documents(), scale_score=False))
    prior = BloomzRanker(str(tiny_ranker), device=CPU, score_prior=2.0)
    mixed = scores_of(prior.run(query=QUESTION, documents=documents()[::-1], scale_score=False))
    for n, text in enumerate(TEXTS):  # document n came with 0.1 n, the best with 0.5
        assert mixed[text] == pytest.approx(alone[text] - 2.0 * (1 - n / 5), abs=1e-5)
    twin = replace(documents()[3], score=-5.0)  # of the same id: the higher score counts
    assert scores_of(prior.run(query=QUESTION, documents=[twin, *documents()], scale_score=False)) == pytest.approx(
        mixed, abs=1e-5
    )
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"score_prior must be a number >= 0, but got {wrong}"):
            BloomzRanker(str(tiny_ranker), score_prior=wrong)


def test_the_model_itself_says_how_much_the_scores_count(
    make_bloom: MakeBloom, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    folder = make_bloom(ranker=True, seed=1)
    assert Scorer(open_checkpoint(str(folder), "rank", device="cpu")).score_prior == 0.0  # says nothing
    told = tmp_path / "told"
    shutil.copytree(folder, told)
    edit_config(told, score_prior=2.5)
    forced, own, none = (
        scores_of(BloomzRanker(str(told), device=CPU, score_prior=prior).run(query=QUESTION, documents=documents()))
        for prior in (2.5, None, 0.0)
    )
    assert own == forced
    assert own != none
    unscored = [replace(document, score=None) for document in documents()]
    alone = scores_of(BloomzRanker(str(told), device=CPU).run(query=QUESTION, documents=unscored))
    assert alone == none
    entry = choose_ranker(str(told), {})
    assert open_cross_encoder(entry, device="cpu").score_prior == 2.5
    edit_config(told, score_prior="much")
    with pytest.raises(CheckpointError, match=r"score_prior in config.json must be a number >= 0, but got 'much'"):
        BloomzRanker(str(told), device=CPU, model_kwargs={"dtype": "float32"}).warm_up()


def test_shares_are_the_softmax_over_the_candidates_and_none_of_them() -> None:
    odds = np.random.default_rng(0).normal(scale=6.0, size=(4, 50)).astype(np.float32)
    weights = np.exp(odds.astype(np.float64))
    shared = with_score_share(odds)
    np.testing.assert_allclose(probabilities(shared), weights / (1 + weights.sum(1, keepdims=True)), atol=1e-6)
    np.testing.assert_array_equal(shared.argsort(), odds.argsort())
    assert shared.dtype == np.float32
    assert with_score_share(np.array([1.5], dtype=np.float32)).tolist() == [1.5]  # alone: as it is
    assert with_score_share(odds[0, :0]).tolist() == []
    far = with_score_share(np.array([90.0, 40.0], dtype=np.float32))  # no difference of large sums
    np.testing.assert_allclose(far, [50.0, -50.0], atol=1e-4)
    two_bad = probabilities(with_score_share(np.array([-4.0, -4.0], dtype=np.float32)))
    np.testing.assert_allclose(two_bad, np.exp(-4.0) / (1 + 2 * np.exp(-4.0)), atol=1e-6)


def test_the_model_itself_says_that_its_scores_are_shares(
    make_bloom: MakeBloom, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    folder = make_bloom(ranker=True, seed=1)
    told = tmp_path / "told"
    shutil.copytree(folder, told)
    edit_config(told, score_share=True)
    plain = BloomzRanker(str(folder), device=CPU, scale_score=False)
    alone = scores_of(plain.run(query=QUESTION, documents=documents()))
    found = BloomzRanker(str(told), device=CPU).run(query=QUESTION, documents=documents())
    weights = {text: np.exp(odds) for text, odds in alone.items()}
    for text, share in scores_of(found).items():
        assert share == pytest.approx(weights[text] / (1 + sum(weights.values())), abs=1e-5)
    assert [document.content for document in found["documents"]] == sorted(alone, key=lambda text: -alone[text])
    copies = [replace(documents()[0], id=f"copy {n}") for n in range(3)]
    again = BloomzRanker(str(told), device=CPU).run(query=QUESTION, documents=[*copies, *documents()])
    assert scores_of(again) == pytest.approx(scores_of(found), abs=1e-5)  # copies are no rivals
    edit_config(told, score_share="yes")
    with pytest.raises(CheckpointError, match=r"score_share in config.json must be true or false, but got 'yes'"):
        BloomzRanker(str(told), device=CPU, model_kwargs={"dtype": "float32"}).warm_up()


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), -float("inf")])
def test_a_score_prior_needs_the_scores_of_a_retriever(tiny_ranker: Path, score: float | None) -> None:
    prior = BloomzRanker(str(tiny_ranker), device=CPU, score_prior=2.0)
    found = [*documents(), Document(id="unscored", content="Madrid", score=score)]
    told = rf"document 'unscored' has score {score}: rank what a retriever found, or set score_prior=0"
    with pytest.raises(ValueError, match=told):
        prior.run(query=QUESTION, documents=found)
    assert prior._engine is None, "said before the weights are loaded"
    without = BloomzRanker(str(tiny_ranker), device=CPU, score_prior=0)
    assert len(without.run(query=QUESTION, documents=found)["documents"]) == 7


@pytest.mark.parametrize("share", [False, True])
def test_the_benchmark_ranks_with_the_same_prior_and_share(
    tiny_ranker: Path, edit_config: Callable[..., None], tmp_path: Path, share: bool
) -> None:
    folder = tmp_path / "ranker"
    shutil.copytree(tiny_ranker, folder)
    edit_config(folder, score_share=share)
    corpus = read_corpus("squad", SMALL_SQUAD, "fr", "en")
    questions = corpus.questions[:4]
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(corpus.passages), 8)).astype(np.float32)
    first = rank_vectors(vectors[:4], vectors, [question.gold for question in questions], "cosine", 5)
    first.candidate_scores[3, 2:] = -np.inf  # not found, as by BM25
    entry = choose_ranker(str(folder), {}, {"score_prior": 2.0})
    encoder = open_cross_encoder(entry, device="cpu")
    second = rerank_passages(encoder, first, corpus, questions, 5, Quiet())
    prior = BloomzRanker(str(folder), device=CPU, score_prior=2.0, scale_score=False)
    for question, before, carried, after, scores in zip(
        questions,
        first.candidates,
        first.candidate_scores,
        second.ranking.candidates,
        second.ranking.candidate_scores,
        strict=True,
    ):
        found = [
            Document(
                id=str(place), content=corpus.passages[place].text, score=0.0 if np.isneginf(score) else float(score)
            )
            for place, score in zip(before, carried, strict=True)
        ]
        ranked = prior.run(query=question.text, documents=found)["documents"]
        assert [int(document.id) for document in ranked] == after.tolist()
        np.testing.assert_allclose([document.score for document in ranked], scores, atol=1e-4)
    # Negative control: the same candidates in the same order, at other distances.
    other = first._replace(candidate_scores=np.tile(np.linspace(1, 0.6, 5, dtype=np.float32), (4, 1)))
    flat = rerank_passages(encoder, other, corpus, questions, 5, Quiet())
    assert np.abs(flat.ranking.candidate_scores - second.ranking.candidate_scores).max() > 0.5


def test_documents_are_not_changed(ranker: BloomzRanker) -> None:
    before, untouched = documents(), documents()
    after = ranker.run(query=QUESTION, documents=before)["documents"]
    assert before == untouched
    assert {document.id for document in after} == {document.id for document in before}


def test_top_k_cuts_after_the_threshold(tiny_ranker: Path, ranker: BloomzRanker) -> None:
    scores = [document.score for document in ranker.run(query=QUESTION, documents=documents())["documents"]]
    third = scores[2]

    def count(**options: Any) -> int:  # noqa: ANN401
        return len(ranker.run(query=QUESTION, documents=documents(), **options)["documents"])

    assert count(score_threshold=third) == 3, "a score equal to the threshold is kept"
    assert count(score_threshold=third, top_k=2) == 2
    assert count(top_k=1) == 1
    assert count(score_threshold=1.1) == 0
    strict = BloomzRanker(str(tiny_ranker), device=CPU, top_k=4, score_threshold=2.0, scale_score=False)
    assert len(strict.run(query=QUESTION, documents=documents(), score_threshold=-1e9)["documents"]) == 4


def test_false_and_zero_override_at_run_time(tiny_ranker: Path) -> None:
    never = BloomzRanker(str(tiny_ranker), device=CPU, score_threshold=1.1)
    assert never.run(query=QUESTION, documents=documents())["documents"] == []
    assert len(never.run(query=QUESTION, documents=documents(), score_threshold=0)["documents"]) == 6
    raw = scores_of(never.run(query=QUESTION, documents=documents(), score_threshold=-1e9, scale_score=False))
    assert min(raw.values()) < 0 or max(raw.values()) > 1


def test_the_threshold_is_compared_with_the_score_given_back(ranker: BloomzRanker) -> None:
    everything = scores_of(ranker.run(query=QUESTION, documents=documents(), scale_score=False))
    kept = scores_of(ranker.run(query=QUESTION, documents=documents(), scale_score=False, score_threshold=0.0))
    assert kept == {text: score for text, score in everything.items() if score >= 0}
    halves = scores_of(ranker.run(query=QUESTION, documents=documents(), score_threshold=0.5))
    assert list(kept) == list(halves)


def test_duplicates_keep_the_best_incoming_score(ranker: BloomzRanker) -> None:
    same = [
        Document(id="1", content="Paris", score=0.2),
        Document(id="2", content="London"),
        Document(id="1", content="Paris, best", score=0.9),
        Document(id="1", content="Paris, unscored"),
        Document(id="2", content="London, later"),
    ]
    ranked = ranker.run(query=QUESTION, documents=same)["documents"]
    assert sorted(document.content for document in ranked) == ["London", "Paris, best"]


def test_equal_scores_keep_their_order(ranker: BloomzRanker) -> None:
    twins = [Document(id=str(n), content="Paris") for n in range(20)]
    ranked = ranker.run(query=QUESTION, documents=twins, top_k=20)["documents"]
    assert [document.id for document in ranked] == [str(n) for n in range(20)]


def test_very_long_lists_come_back_sorted(tiny_ranker: Path) -> None:
    ranker = BloomzRanker(str(tiny_ranker), device=CPU, batch_tokens=100, progress_bar=False, top_k=500)
    many = [Document(content=f"ville numéro {n} " * (n % 7 + 1)) for n in range(150)]
    ranked = ranker.run(query=QUESTION, documents=many)["documents"]
    scores = [document.score for document in ranked]
    assert scores == sorted(scores, reverse=True)
    alone = ranker.run(query=QUESTION, documents=[ranked[70]])["documents"][0].score
    assert alone == pytest.approx(scores[70], abs=1e-5)


def test_affixes_and_metadata(tiny_ranker: Path) -> None:
    ranker = BloomzRanker(
        str(tiny_ranker),
        device=CPU,
        query_prefix="q: ",
        query_suffix=" !",
        document_prefix="< ",
        document_suffix=" >",
        meta_fields_to_embed=["titre", "page", "note"],
        embedding_separator=" | ",
    )
    document = Document(content="Paris", meta={"titre": "Ville", "page": 0, "note": None})
    score = ranker.run(query="Où ?", documents=[document])["documents"][0].score
    assert score == pytest.approx(by_pipeline(tiny_ranker, "q: Où ? !", ["< Ville | 0 | Paris >"])[0], abs=1e-5)


def test_an_empty_question_scores_the_document_alone(tiny_ranker: Path, ranker: BloomzRanker) -> None:
    score = ranker.run(query="", documents=[Document(content="Paris")])["documents"][0].score
    assert score == pytest.approx(by_pipeline(tiny_ranker, "", ["Paris"])[0], abs=1e-5)


@pytest.mark.parametrize(
    "blank", [None, "", "  \n\t ", "----- . . . -----", "\u200b\u00ad", "…", "| | |", "\ufffd\ufffd"]
)
def test_a_document_without_text_is_left_out(ranker: BloomzRanker, blank: str | None) -> None:
    """Also where the model would put it first, without a threshold, and for want of anything else."""
    empty = Document(id="blank", content=blank, meta={"page_number": 7})
    for question in (QUESTION, ""):
        found = ranker.run(query=question, documents=[empty, *documents()])["documents"]
        assert sorted(document.content for document in found) == sorted(TEXTS)
        assert ranker.run(query=question, documents=[empty], score_threshold=-1e9, scale_score=False) == {
            "documents": []
        }


def test_a_title_that_the_model_reads_is_text(tiny_ranker: Path) -> None:
    scanned = Document(id="page", content=None, meta={"titre": "Bail"})
    titled = BloomzRanker(str(tiny_ranker), device=CPU, meta_fields_to_embed=["titre"])
    assert [document.id for document in titled.run(query="Où ?", documents=[scanned])["documents"]] == ["page"]


def test_copies_of_a_text_take_one_place(tiny_ranker: Path, ranker: BloomzRanker) -> None:
    composed, decomposed = "Le siège est à Rennes.", unicodedata.normalize("NFD", "Le siège  est à\nRennes.")
    copies = [
        Document(id=f"copie-{n}", content=text, meta={"file_path": f"copie-{n}/mentions.txt"})
        for n, text in enumerate([composed, composed, decomposed, composed, composed])
    ]
    found = [*copies[:2], *documents(), *copies[2:]]
    separate = ranker.run(query=QUESTION, documents=found, top_k=20)["documents"]
    assert len(separate) == 11, "off unless asked for"
    assert not any("copies" in document.meta for document in separate)
    merging = BloomzRanker(str(tiny_ranker), device=CPU, merge_copies=True)
    merged = merging.run(query=QUESTION, documents=found, top_k=20)["documents"]
    best, *others = [document for document in separate if document.id.startswith("copie-")]
    assert [document.id for document in merged] == [
        document.id for document in separate if document == best or not document.id.startswith("copie-")
    ], "the others keep their places"
    kept = next(document for document in merged if document.id == best.id)
    assert kept.score == best.score == max(document.score for document in (best, *others))
    assert kept.meta == {**best.meta, "copies": [{**other.meta, "id": other.id} for other in others]}
    for top_k in (1, 7, 9):
        few = merging.run(query=QUESTION, documents=found, top_k=top_k)["documents"]
        assert few == merged[:top_k], "top_k counts distinct texts"
    bar = sorted((document.score for document in merged), reverse=True)[2]
    assert merging.run(query=QUESTION, documents=found, score_threshold=bar)["documents"] == merged[:3]


def test_a_question_too_long_is_cut_with_one_warning(
    tiny_ranker: Path, ranker: BloomzRanker, caplog: pytest.LogCaptureFixture
) -> None:
    mail = "Bonjour, où est la tour Eiffel ? Hello, where is the Eiffel tower? " * 200
    with caplog.at_level(logging.WARNING):
        ranked = ranker.run(query=mail, documents=documents())["documents"]
    assert sorted(document.content for document in ranked) == sorted(TEXTS)
    assert [record.getMessage() for record in caplog.records] == [
        "the question was too long to be ranked within 2048 tokens and lost its end"
    ]
    strict = BloomzRanker(str(tiny_ranker), device=CPU, truncate=False)
    with pytest.raises(ValueError, match=r"a question of \d+ tokens leaves too little room .* shorten the question"):
        strict.run(query=mail, documents=documents())


def test_no_document_needs_no_model_but_arguments_are_checked() -> None:
    ranker = BloomzRanker("nobody/nothing")
    assert ranker.run(query=QUESTION, documents=[]) == {"documents": []}
    assert ranker._engine is None
    for wrong in (0, -3):
        with pytest.raises(ValueError, match=f"top_k must be > 0, but got {wrong}"):
            ranker.run(query=QUESTION, documents=[], top_k=wrong)
        with pytest.raises(ValueError, match=f"top_k must be > 0, but got {wrong}"):
            BloomzRanker(top_k=wrong)
    with pytest.raises(TypeError, match="BloomzRanker expects a string as query, but got list"):
        ranker.run(query=[QUESTION], documents=[])  # type: ignore[arg-type]
    for strange in ("3", 2.5):
        with pytest.raises(TypeError, match=f"top_k must be an integer, but got {strange!r}"):
            ranker.run(query=QUESTION, documents=[], top_k=strange)  # type: ignore[arg-type]
    for documents in ("text", ["text"], None, Document()):
        with pytest.raises(TypeError, match="documents must be a list of Documents, but got "):
            ranker.run(query=QUESTION, documents=documents)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_tokens must be > 0, but got -1"):
        BloomzRanker(batch_tokens=-1)
    with pytest.raises(TypeError, match="trust_remote_code"):
        BloomzRanker(trust_remote_code=True)  # type: ignore[call-arg]


def test_every_parameter_survives_a_round_trip() -> None:
    default, built = BloomzRanker(), BloomzRanker(**EVERY_PARAMETER)
    data = built.to_dict()
    assert data["type"] == "haystack_integrations.components.rankers.bloomz.ranker.BloomzRanker"
    assert data["init_parameters"].keys() == EVERY_PARAMETER.keys() == default.to_dict()["init_parameters"].keys()
    for name, value in EVERY_PARAMETER.items():
        assert getattr(default, name) != value, f"{name} is tested with its default"
    again = BloomzRanker.from_dict(data)
    assert again.to_dict() == data
    assert {name: getattr(again, name) for name in EVERY_PARAMETER} == EVERY_PARAMETER
    assert default.model == "cmarkea/bloomz-560m-reranking"


def test_sixteen_threads_give_the_scores_of_one(ranker: BloomzRanker) -> None:
    expected = ranker.run(query=QUESTION, documents=documents())
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ranker.run(query=QUESTION, documents=documents()), range(48)))
    for answer in answers:
        assert [d.id for d in answer["documents"]] == [d.id for d in expected["documents"]]
        np.testing.assert_allclose(list(scores_of(answer).values()), list(scores_of(expected).values()), atol=1e-6)


def test_close_then_run_loads_again(make_bloom: MakeBloom) -> None:
    ranker = BloomzRanker(str(make_bloom(ranker=True)), device=CPU)
    first = ranker.run(query=QUESTION, documents=documents())
    ranker.close()
    assert ranker._engine is None
    assert ranker.run(query=QUESTION, documents=documents()) == first


def test_progress_bar_only_for_a_long_rerank(tiny_ranker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = [Document(content=f"ville {n}") for n in range(201)]
    loud, quiet = (BloomzRanker(str(tiny_ranker), device=CPU, progress_bar=shown) for shown in (True, False))
    loud.warm_up()
    quiet.warm_up()
    capsys.readouterr()
    quiet.run(query="Qui ?", documents=many)
    loud.run(query="Qui ?", documents=many[:200])
    assert capsys.readouterr() == ("", "")
    loud.run(query="Who?", documents=many)
    assert "201/201" in capsys.readouterr().err


def test_the_recommended_threshold_is_told_and_never_applied(
    make_bloom: MakeBloom, edit_config: Callable[..., None]
) -> None:
    folder = make_bloom(ranker=True)
    documents = [Document(content=text) for text in ("Une île.", "An island.", "")]
    silent = BloomzRanker(str(folder), device=CPU)
    ranked = silent.run(query=QUESTION, documents=documents)["documents"]
    assert (silent.recommended_threshold, silent.stats()) == (None, {})
    silent.close()
    edit_config(folder, score_threshold=0.999)
    told = BloomzRanker(str(folder), device=CPU)
    assert told.stats() == {}
    assert told.recommended_threshold == 0.999
    assert told.stats() == {"recommended_threshold": 0.999}
    assert told.run(query=QUESTION, documents=documents)["documents"] == ranked
    assert told.score_threshold is None


@pytest.mark.parametrize("threshold", [True, "0.8", 80, -0.1])
def test_a_threshold_that_is_no_probability_is_refused(
    make_bloom: MakeBloom, edit_config: Callable[..., None], threshold: object
) -> None:
    folder = make_bloom(ranker=True)
    edit_config(folder, score_threshold=threshold)
    with pytest.raises(CheckpointError, match=r"score_threshold in config.json must be a number from 0 to 1, but got"):
        BloomzRanker(str(folder), device=CPU).warm_up()
