"""Hybrid search: BM25 and fusion against plain Python, and what becomes of a store that keeps words."""

import json
import math
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy

from haystack_integrations.components.retrievers.qdrant_edge import QdrantEdgeHybridRetriever
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge import search, stored
from haystack_integrations.document_stores.qdrant_edge.fusion import Fusion, Side, fuse
from haystack_integrations.document_stores.qdrant_edge.search import Asked, search_words
from haystack_integrations.common.bloomz.language import language_of
from haystack_integrations.document_stores.qdrant_edge.points import point_id
from haystack_integrations.document_stores.qdrant_edge.bm25 import WORDS, document_words, question_words

DIMENSION = 8
SENTENCES = [
    "La tour Eiffel se trouve à Paris, au bord de la Seine ; elle mesure 330 mètres.",
    "The Eiffel tower stands in Paris, on the banks of the Seine, and it is 330 metres high.",
    "Quand le Titanic a-t-il coulé ? Dans la nuit du 14 au 15 avril 1912.",
    "The Titanic sank in the night of 14 to 15 April 1912, after it had hit an iceberg.",
    "L'été, les élèves de l'école d'Aix vont à la mer ; l'hiver, à la montagne.",
    "Pupils learn the rivers of France at school: the Loire, the Rhône, the Seine, the Garonne.",
]
QUESTIONS = ["Où est la tour Eiffel ?", "When did the Titanic sink?", "Combien de mètres ?", "Which river, the Loire?"]
K1, B, AVERAGE = 1.2, 0.75, 100


def passages() -> list[Document]:
    """Sixty passages, French and English, of different lengths."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(SENTENCES, size)) + f" Page {n % 7}." for n, size in enumerate([1, 2, 3, 4] * 15)]
    return [
        Document(id=f"d{n}", content=text, meta={"page": n, "lang": "fr" if n % 2 else "en"})
        for n, text in enumerate(texts)
    ]


def embeddings(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantEdgeDocumentStore]:
    store = QdrantEdgeDocumentStore(str(tmp_path_factory.mktemp("hybrid") / "store"), DIMENSION, hybrid=True)
    store.write_embeddings(passages(), embeddings(60, 1))
    yield store
    store.close()


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return embeddings(len(QUESTIONS), 2)


# ---------------------------------------------------------------- plain Python


def plain_words(text: str) -> list[int]:
    """One word at a time; of Edge only the stemmer and the stop words, never a weight."""
    return [index for word in re.findall(r"[^\W_]+", text) for index in question_words(word).indices]


def plain_bm25(texts: list[str], question: str) -> dict[int, float]:
    """BM25 by the book over texts, those that share no word left out."""
    words = [plain_words(text) for text in texts]
    held = Counter(word for of_text in words for word in set(of_text))
    scores = {}
    for place, of_text in enumerate(words):
        norm = K1 * (1 - B + B * len(of_text) / AVERAGE)
        counts = Counter(of_text)
        parts = [
            math.log(1 + (len(texts) - held[word] + 0.5) / (held[word] + 0.5)) * counts[word] * (K1 + 1)
            / (counts[word] + norm)
            for word in set(plain_words(question))
            if counts[word]
        ]  # fmt: skip
        if parts:
            scores[place] = math.fsum(parts)
    return scores


def plain_rank(scores: dict[int, float], place: int) -> float:
    above = sum(score > scores[place] for score in scores.values())
    return above + (1 + sum(score == scores[place] for score in scores.values())) / 2


def plain_hybrid(
    question: str, query: np.ndarray, fusion: str, weights: tuple[float, float], k: float
) -> dict[int, float]:
    """Fused score of each passage, all candidates kept."""
    texts = [document.content or "" for document in passages()]
    # Edge computes in float32: what ties there must tie here.
    by_words = {place: float(np.float32(score)) for place, score in plain_bm25(texts, question).items()}
    units = embeddings(60, 1).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    by_vectors = dict(enumerate((units @ query / np.linalg.norm(query)).tolist()))
    asked = set(plain_words(question))
    best = max(by_words, key=lambda place: by_words[place])
    trust = len(asked & set(plain_words(texts[best]))) / len(asked)
    if {language_of(question), language_of(texts[best])} == {"en", "fr"}:
        trust /= 4
    if fusion == "convex":
        return {
            place: (weights[0] * max(cosine, 0) + weights[1] * trust * by_words.get(place, 0) / by_words[best])
            / sum(weights)
            for place, cosine in by_vectors.items()
        }
    total = weights[0] + weights[1] * trust
    return {
        place: (
            weights[0] / (k + plain_rank(by_vectors, place))
            + (weights[1] * trust / (k + plain_rank(by_words, place)) if place in by_words else 0)
        )
        * (k + 1)
        / total
        for place in by_vectors
    }


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("question", QUESTIONS)
def test_scores_of_words_are_bm25(store: QdrantEdgeDocumentStore, question: str) -> None:
    texts = [document.content or "" for document in passages()]
    expected = plain_bm25(texts, question)
    with store._shard().reading() as edge:
        (hits,), _ = search_words(edge, [Asked(question, question_words(question))], None, 100)
    got = dict(hits)
    assert len(got) == len(expected) > 5
    for place, score in expected.items():
        assert got[point_id(f"d{place}")] == pytest.approx(score, rel=1e-5)
    other = plain_bm25(texts[:30], question)  # negative control: another idf shows
    assert any(got[point_id(f"d{place}")] != pytest.approx(score, rel=1e-3) for place, score in other.items())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("L'École", "ecoles"),  # elision, case, accent, plural
        ("d’Aix", "AIX"),
        ("tours de Paris", "Paris, the tower's tour"),
        ("Combien de rivières était-ce ?", "riviere"),
        ("How many rivers were there?", "many rivers"),
    ],
)
def test_both_languages_are_reduced_alike(one: str, other: str) -> None:
    assert set(question_words(one).indices) & set(question_words(other).indices)


@pytest.mark.parametrize("text", ["", "   ", None, "?!…", "le la les à où était quelle", "the of and what"])
def test_a_text_without_words_keeps_none(text: str | None) -> None:
    assert document_words(text) == {}
    if text is not None:
        assert question_words(text).indices == []


# ---------------------------------------------------------------- fusion


def sides(one: float, other: float, trust: float = 1.0) -> list[Side[str]]:
    """Two lists: a is found by vectors only, d by words only, and b is on the other side of the question."""
    near = Side([("a", 0.5), ("c", 0.25), ("b", -0.5)], one, "cosine")
    return [near, Side([("c", 8.0), ("d", 6.0), ("b", 2.0)], other, "bm25", trust)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (sides(1, 3), {"c": (0.25 + 3) / 4, "d": 3 * 0.75 / 4, "b": 3 * 0.25 / 4, "a": 0.5 / 4}),
        # What words are trusted with is taken from their share, and not given to the vectors.
        (sides(1, 3, 0.5), {"c": (0.25 + 1.5) / 4, "d": 1.5 * 0.75 / 4, "a": 0.5 / 4, "b": 1.5 * 0.25 / 4}),
        (sides(1, 3, 0), {"a": 0.5 / 4, "c": 0.25 / 4, "b": 0}),
        (sides(1, 0), {"a": 0.5, "c": 0.25, "b": 0}),
        (sides(0, 1), {"c": 1, "d": 0.75, "b": 0.25}),
        ([sides(1, 3)[0], Side([], 3, "bm25", 0)], {"a": 0.5 / 4, "c": 0.25 / 4, "b": 0}),
        ([Side([], 1, "cosine"), sides(1, 3)[1]], {"c": 3 / 4, "d": 3 * 0.75 / 4, "b": 3 * 0.25 / 4}),
        ([Side([("b", -0.1), ("a", -0.2)], 1, "cosine")], {"a": 0, "b": 0}),  # a tie: the lower key
        ([Side([("b", 1.0000001), ("a", 1.0)], 1, "cosine")], {"a": 1, "b": 1}),  # float32 may go above 1
        (
            [Side([("a", 0.5)], 1, "cosine"), Side([("c", 7.0), ("b", 3.5)], 1, "bm25")],
            {"c": 0.5, "a": 0.25, "b": 0.25},
        ),
        ([Side([], 1, "cosine"), Side([], 3, "bm25")], {}),
    ],
)
def test_convex_fusion_by_hand(found: list[Side[str]], expected: dict[str, float]) -> None:
    assert fuse(found) == list(expected.items())


def test_fusion_of_ranks_by_hand() -> None:
    def found(one: float, other: float, trust: float = 1.0) -> list[Side[str]]:
        near = Side([("a", 0.9), ("b", 0.5), ("c", 0.5)], one, "cosine")
        return [near, Side([("c", 8.0), ("d", 7.0)], other, "bm25", trust)]

    expected = [
        ("c", pytest.approx((1 / 4.5 + 3 / 3) * 3 / 4)),
        ("d", pytest.approx(3 / 4 * 3 / 4)),
        ("a", pytest.approx(1 / 3 * 3 / 4)),
        ("b", pytest.approx(1 / 4.5 * 3 / 4)),
    ]
    assert fuse(found(1, 3), "rrf", rank_constant=2) == fuse(found(1, 6, 0.5), "rrf", rank_constant=2) == expected
    assert fuse(found(1, 3)) != expected  # negative control: by scores
    assert fuse(found(1, 0), "rrf")[0] == fuse(found(1, 3, 0), "rrf")[0] == ("a", 1.0)
    assert [key for key, _ in fuse(found(0, 1), "rrf")] == ["c", "d"]
    assert fuse([Side([], 1, "cosine"), Side([], 1, "bm25")], "rrf") == []
    # 0.25 of the first place is 0.75 of the seventh; the lower key is first.
    tied = [Side([("b", 0.9)], 0.25, "cosine"), Side([(key, -ord(key)) for key in "acdefgh"], 0.75, "bm25")]
    assert fuse(tied, "rrf")[6:8] == [("b", 0.25), ("h", 0.25)]


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
def test_ties_do_not_depend_on_the_order_of_the_lists(fusion: Fusion) -> None:
    rng = np.random.default_rng(4)
    lists = [[(int(key), float(rng.integers(1, 6))) for key in rng.permutation(40)] for _ in range(3)]
    fused = fuse([Side(hits, 1, "bm25") for hits in lists], fusion)
    assert fuse([Side(hits[::-1], 1, "bm25") for hits in lists[::-1]], fusion) == fused
    assert len({score for _, score in fused}) < len(fused)  # there were ties
    assert fused == sorted(fused, key=lambda item: (-item[1], item[0]))


# ---------------------------------------------------------------- hybrid


@pytest.mark.parametrize(
    ("settings", "fusion", "weights", "k"),
    [
        ({}, "convex", (0.6, 0.4), 2),
        ({"weights": [2, 1]}, "convex", (2, 1), 2),
        ({"fusion": "rrf"}, "rrf", (0.25, 0.75), 2),
        ({"fusion": "rrf", "weights": [1, 2], "rank_constant": 60}, "rrf", (1, 2), 60),
    ],
)
def test_order_and_scores_are_plain_python_s(
    store: QdrantEdgeDocumentStore,
    queries: np.ndarray,
    settings: dict[str, object],
    fusion: str,
    weights: tuple[float, float],
    k: int,
) -> None:
    retriever = QdrantEdgeHybridRetriever(store, top_k=60, **settings)  # type: ignore[arg-type]
    other = "rrf" if fusion == "convex" else "convex"
    precise = 1e-5 if fusion == "convex" else 1e-9  # Edge's scores are float32; ranks are exact
    for question, query, found in zip(
        QUESTIONS, queries, retriever.run_batch(QUESTIONS, queries)["documents"], strict=True
    ):
        expected = plain_hybrid(question, query, fusion, weights, k)
        assert len(found) == 60
        for document in found:
            assert document.score == pytest.approx(expected[int(document.id[1:])], rel=precise, abs=1e-7)
        scores = [document.score or 0 for document in found]
        assert scores == sorted(scores, reverse=True)
        assert 0 <= scores[-1] <= scores[0] <= 1
        for wrong in ((fusion, weights[::-1]), (other, weights)):  # negative controls
            others = plain_hybrid(question, query, *wrong, k)
            assert any(document.score != pytest.approx(others[int(document.id[1:])], rel=1e-3) for document in found)


def test_one_question_is_the_batch_of_one(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever = QdrantEdgeHybridRetriever(store, top_k=5)
    batch = retriever.run_batch(QUESTIONS * 40, np.tile(queries, (40, 1)))[
        "documents"
    ]  # more than a call of Edge takes
    for place, (question, query) in enumerate(zip(QUESTIONS, queries, strict=True)):
        alone = retriever.run(question, query.tolist())["documents"]
        assert alone == batch[place] == batch[place + 4 * 39]


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
def test_a_side_of_weight_zero_is_left_out(store: QdrantEdgeDocumentStore, queries: np.ndarray, fusion: Fusion) -> None:
    def found(weights: list[float], top_k: int) -> list[Document]:
        retriever = QdrantEdgeHybridRetriever(store, top_k=top_k, fusion=fusion, weights=weights)
        return retriever.run(QUESTIONS[0], queries[0].tolist())["documents"]

    scores = plain_bm25([document.content or "" for document in passages()], QUESTIONS[0])
    assert {document.id for document in found([0, 1], 60)} == {f"d{place}" for place in scores}
    expected = store.query_batch(queries[:1], top_k=20)[0]  # all of a positive cosine
    assert [document.id for document in found([1, 0], 20)] == [document.id for document in expected]
    if fusion == "convex":
        assert [document.score for document in found([1, 0], 20)] == [document.score for document in expected]


@pytest.mark.parametrize(("side", "weights"), [("search_words", [1, 0]), ("search_vectors", [0, 1])])
def test_a_side_of_weight_zero_is_not_searched(
    store: QdrantEdgeDocumentStore,
    queries: np.ndarray,
    side: str,
    weights: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("searched")

    expected = QdrantEdgeHybridRetriever(store, weights=weights).run_batch(QUESTIONS, queries)
    monkeypatch.setattr(search, side, fail)
    assert QdrantEdgeHybridRetriever(store, weights=weights).run_batch(QUESTIONS, queries) == expected
    with pytest.raises(RuntimeError, match="searched"):  # negative control
        QdrantEdgeHybridRetriever(store).run_batch(QUESTIONS, queries)


def test_a_question_without_known_words_goes_by_its_vector(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    expected = store.query_batch(queries[:1], top_k=9)[0]
    for question in ("", "der Fluss fließt", "où est-ce ?"):
        for fusion, best in (("convex", 0.6 * (expected[0].score or 0)), ("rrf", 1)):
            retriever = QdrantEdgeHybridRetriever(store, top_k=9, fusion=fusion)  # type: ignore[arg-type]
            found = retriever.run(question, queries[0].tolist())["documents"]
            assert [document.id for document in found] == [document.id for document in expected]
            assert found[0].score == pytest.approx(best)


def test_coverage_tells_how_far_to_trust_words(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    question = "Titanic Brücke Fluss Stadt"  # one word of four is known
    nearest = store.query_batch(queries[:1], top_k=60)[0]
    cosines = {document.id: max(document.score or 0, 0) for document in nearest}
    only = next(document for document in nearest if "Titanic" not in (document.content or ""))
    place = nearest.index(only) + 1
    words = plain_bm25([document.content or "" for document in passages()], question)
    best = f"d{max(words, key=lambda place: words[place])}"
    for weigh, share in ((True, 0.25), (False, 1.0)):
        for fusion in ("convex", "rrf"):
            retriever = QdrantEdgeHybridRetriever(
                store,
                top_k=60,
                fusion=fusion,
                weights=[1, 1],
                weigh_by_coverage=weigh,
            )
            documents = retriever.run(question, queries[0].tolist())["documents"]
            found = {document.id: document.score for document in documents}
            if fusion == "convex":
                assert found[only.id] == pytest.approx(cosines[only.id] / 2)
                assert found[best] == pytest.approx((cosines[best] + share) / 2)
            else:
                assert found[only.id] == pytest.approx(3 / (2 + place) / (1 + share))


def test_words_count_a_quarter_between_two_languages(tmp_path: Path) -> None:
    english = [Document(id=str(n), content=text, embedding=[1.0, n]) for n, text in enumerate(SENTENCES[1::2])]
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2, hybrid=True)
    store.write_documents(english)
    for question, trust in (
        ("Quand le Titanic a-t-il coulé ?", 0.5 / 4),  # one word of two: "coulé" is not there
        ("When did the Titanic drown?", 0.5),
        ("Titanic, naufrage", 0.5),  # of no language
    ):
        for weigh, expected in ((True, trust), (False, 1.0)):
            retriever = QdrantEdgeHybridRetriever(store, weights=[1, 1], weigh_by_coverage=weigh)
            (best,) = (d for d in retriever.run(question, [1.0, 1.0])["documents"] if d.id == "1")
            assert best.score == pytest.approx((1 + expected) / 2)
    store.close()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How long is a French passport valid?", "en"),
        ("Combien de temps un passeport français est-il valable ?", "fr"),
        ("WHO DISCOVERED RADIUM?", "en"),
        ("QUI A DÉCOUVERT LE RADIUM ?", "fr"),
        ("L\u2019école, c\u2019est où\u00a0?", "fr"),
        ("E\u0301te\u0301 comme hiver, la mer est la\u0300.", "fr"),
        ("On page 7 of « Le Monde » there is the article.", "en"),
        ("passeport validité", None),
        ("Titanic 1912", None),
        ("Wie heißt der Fluss?", None),
        ("The cat. Le chat.", None),
        ("的是", None),
        ("", None),
        ("?" * 100_000, None),
    ],
)
def test_the_language_is_told_by_function_words(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_filters_thresholds_and_embeddings(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    query = queries[0].tolist()
    early = {"field": "meta.page", "operator": "<", "value": 10}
    french = {"field": "meta.lang", "operator": "==", "value": "fr"}
    for policy, pages in ((FilterPolicy.REPLACE, range(1, 60, 2)), (FilterPolicy.MERGE, range(1, 10, 2))):
        retriever = QdrantEdgeHybridRetriever(store, filters=early, filter_policy=policy, top_k=60)
        found = retriever.run(QUESTIONS[0], query, filters=french, return_embedding=True)["documents"]
        assert sorted(document.meta["page"] for document in found) == list(pages)
        assert found[0].embedding == pytest.approx(embeddings(60, 1)[found[0].meta["page"]], rel=1e-5)
    retriever = QdrantEdgeHybridRetriever(store, score_threshold=2.0)
    assert retriever.run(QUESTIONS[0], query)["documents"] == []
    found = retriever.run(QUESTIONS[0], query, top_k=4, score_threshold=0.0)["documents"]
    assert len(found) == 4
    assert found[0].embedding is None
    kept = retriever.run(QUESTIONS[0], query, score_threshold=found[1].score)["documents"]
    assert [document.id for document in kept] == [document.id for document in found[:2]]


def test_top_k_above_candidates_raises_the_candidates(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever = QdrantEdgeHybridRetriever(store, candidates=3)
    assert len(retriever.run(QUESTIONS[0], queries[0].tolist(), top_k=40)["documents"]) >= 40


async def test_run_async_is_run(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever, query = QdrantEdgeHybridRetriever(store), queries[0].tolist()
    assert await retriever.run_async(QUESTIONS[0], query, top_k=4) == retriever.run(QUESTIONS[0], query, top_k=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k must be > 0, but got 0"),
        ({"candidates": -1}, "candidates must be > 0, but got -1"),
        ({"fusion": "sum"}, "fusion must be 'convex' or 'rrf', but got 'sum'"),
        ({"rank_constant": -2}, "rank_constant must be a number >= 0, but got -2"),
        ({"weights": [1]}, r"weights must be two numbers >= 0.*but got \[1\]"),
        ({"weights": [0, 0]}, "not both 0"),
        ({"weights": [float("nan"), 1]}, "weights must be two numbers"),
    ],
)
def test_settings_out_of_range_are_refused(
    store: QdrantEdgeDocumentStore, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        QdrantEdgeHybridRetriever(store, **settings)  # type: ignore[arg-type]


def test_questions_that_cannot_be_asked_are_refused(store: QdrantEdgeDocumentStore, queries: np.ndarray) -> None:
    retriever, query = QdrantEdgeHybridRetriever(store), queries[0].tolist()
    with pytest.raises(TypeError, match="must be a string, but got list"):
        retriever.run(["Où ?"], query)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lone surrogate"):
        retriever.run("\ud800 ?", query)
    with pytest.raises(ValueError, match="8"):
        retriever.run("Où ?", [1.0, 2.0])
    with pytest.raises(ValueError, match="each of the 2 questions, but got 1"):
        retriever.run_batch(["Où ?", "Where?"], [query])
    assert retriever.run_batch([], [])["documents"] == []


def test_yaml_keeps_every_setting(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "never made"), 7, hybrid=True)
    retriever = QdrantEdgeHybridRetriever(
        store,
        filters={"field": "meta.langue", "operator": "==", "value": "fr"},
        top_k=3,
        filter_policy=FilterPolicy.MERGE,
        score_threshold=0.25,
        return_embedding=True,
        candidates=17,
        fusion="rrf",
        weights=[0.5, 2.0],
        weigh_by_coverage=False,
        rank_constant=60,
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", retriever)
    loaded = Pipeline.loads(pipeline.dumps()).get_component("retriever")
    settings = {name: value for name, value in vars(loaded).items() if name in retriever.to_dict()["init_parameters"]}
    assert vars(settings.pop("document_store")) == vars(store)
    assert settings == {name: getattr(retriever, name) for name in settings}
    assert len(settings) == 10
    older = retriever.to_dict()
    del older["init_parameters"]["fusion"]
    assert QdrantEdgeHybridRetriever.from_dict(older).fusion == "convex"
    assert not (tmp_path / "never made").exists()


# ---------------------------------------------------------------- the store


def by_words(store: QdrantEdgeDocumentStore, question: str) -> list[str]:
    return [
        document.id
        for document in store.query_hybrid_batch([question], [[1.0] * store.embedding_dim], weights=(0, 1))[0]
    ]


@pytest.mark.parametrize("datatype", ["float32", "float16"])
def test_words_follow_what_is_written_and_deleted(tmp_path: Path, datatype: str) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2, datatype=datatype, hybrid=True)  # type: ignore[arg-type]
    store.write_documents(
        [
            Document(id="fr", content="La Loire est un fleuve.", embedding=[1.0, 2.0]),
            Document(id="bare", content="The Loire is a river."),
            Document(id="empty", embedding=[2.0, 1.0]),
        ]
    )
    assert sorted(by_words(store, "Loire")) == ["bare", "fr"]  # words need no embedding
    assert {document.id: document.embedding for document in store.filter_documents()} == {
        "fr": pytest.approx([1.0, 2.0], rel=2e-3),
        "bare": None,
        "empty": pytest.approx([2.0, 1.0], rel=2e-3),
    }
    assert store.count_documents_by_filter({"field": "embedding", "operator": "==", "value": None}) == 1
    store.update_by_filter({"field": "id", "operator": "==", "value": "fr"}, {"page": 3})
    assert sorted(by_words(store, "Loire")) == ["bare", "fr"]
    store.write_documents([Document(id="fr", content="Le Rhône.", embedding=[1.0, 2.0])], DuplicatePolicy.OVERWRITE)
    assert (by_words(store, "Loire"), by_words(store, "Rhone")) == (["bare"], ["fr"])
    store.delete_documents(["bare"])
    assert by_words(store, "Loire") == []
    store.close()
    plain = QdrantEdgeDocumentStore(store.path, 2, datatype=datatype)  # type: ignore[arg-type]
    plain.write_documents([Document(id="new", content="La Loire à Nantes", embedding=[3.0, 1.0])])
    assert by_words(plain, "loire") == ["new"]  # the folder says that words are kept, not the argument
    plain.delete_all_documents()
    plain.write_documents([Document(id="again", content="La Loire")])
    assert by_words(plain, "loire") == ["again"]
    plain.close()


def test_a_store_made_without_words_says_what_to_do_and_gets_them(
    tmp_path: Path, store: QdrantEdgeDocumentStore, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "SCROLL_PAGE", 7)
    old = QdrantEdgeDocumentStore(str(tmp_path / "store"), DIMENSION)
    old.write_embeddings(passages(), embeddings(60, 1))
    description = json.loads((old.folder / "store.json").read_text())
    del description["hybrid"]  # as the first version wrote it
    old.close()
    (old.folder / "store.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"keeps no words .* hybrid=True") as refused:
        QdrantEdgeHybridRetriever(old).run("Où ?", queries[0].tolist())
    assert "\n" not in str(refused.value)
    assert len(old.query_batch(queries[:1], top_k=60)[0]) == 60

    new = QdrantEdgeDocumentStore(str(tmp_path / "store"), DIMENSION, hybrid=True)  # while the other has it open
    settings = {"top_k": 60}
    found, expected = (each.query_hybrid_batch(QUESTIONS, queries, **settings) for each in (new, store))  # type: ignore[arg-type]
    assert found == expected
    new.close()
    assert old.query_hybrid_batch(QUESTIONS, queries, **settings) == expected  # type: ignore[arg-type]
    old.close()
    assert new.query_hybrid_batch(QUESTIONS, queries, **settings) == expected  # type: ignore[arg-type]
    new.close()


KILLED = """
import os, sys
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge import shard, stored, writing
stored.SCROLL_PAGE = 7
give, pages = writing.document_words, []
def words(text):
    pages.append(text)
    if len(pages) == 40:
        os.kill(os.getpid(), 9)
    return give(text)
writing.document_words = words
QdrantEdgeDocumentStore(sys.argv[1], int(sys.argv[2]), hybrid=True).open()
"""


@pytest.mark.slow
def test_killed_while_it_gets_its_words_it_begins_again(
    tmp_path: Path, store: QdrantEdgeDocumentStore, queries: np.ndarray
) -> None:
    old = QdrantEdgeDocumentStore(str(tmp_path / "store"), DIMENSION)
    old.write_embeddings(passages(), embeddings(60, 1))
    old.close()
    done = subprocess.run([sys.executable, "-c", KILLED, old.path, str(DIMENSION)], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="keeps no words"):
        by_words(old, "Loire")
    old.close()
    again = QdrantEdgeDocumentStore(old.path, DIMENSION, hybrid=True)
    assert again.query_hybrid_batch(QUESTIONS, queries) == store.query_hybrid_batch(QUESTIONS, queries)
    again.close()


def test_a_lone_surrogate_is_refused_by_name_and_a_huge_text_is_kept(tmp_path: Path) -> None:
    store = QdrantEdgeDocumentStore(str(tmp_path / "store"), 2, hybrid=True)
    with pytest.raises(ValueError, match="document 'cassé' cannot be stored"):
        store.write_documents([Document(id="bon", content="bon"), Document(id="cassé", content="\ud800")])
    assert store.count_documents() == 0
    store.write_documents([Document(id="long", content="mot " * 200_000 + "aiguille")])
    assert by_words(store, "une aiguille") == ["long"]
    store.close()
    (store.folder / "store.json").write_text('{"embedding_dim": 2, "datatype": "float32", "hybrid": "yes"}')
    with pytest.raises(DocumentStoreError, match="damaged"):
        store.open()


QUESTION, VECTOR = "Où est la salle 12 du bâtiment 5 ?", [1.0, 2.0]


def answers(store: QdrantEdgeDocumentStore) -> list[list[tuple[str, float]]]:
    """By both fusions and by vectors alone, cut where scores are equal."""
    found = [store.query_hybrid_batch([QUESTION], [VECTOR], top_k=6, fusion=fusion)[0] for fusion in ("convex", "rrf")]
    found.append(store.query_hybrid_batch([QUESTION], [VECTOR], top_k=6, candidates=7)[0])
    found.append(store.query_batch([VECTOR], top_k=6)[0])
    # Edge adds the words up in any order: the last bit of a float32 may differ.
    return [[(document.id, round(document.score or 0.0, 5)) for document in documents] for documents in found]


def test_same_documents_same_answers_whatever_came_and_went_before(tmp_path: Path) -> None:
    rooms = [
        Document(
            id=str(i),
            content=f"La salle {i % 50} est au bâtiment {i % 7}. Room {i % 50}." * (1 + i % 3),
            embedding=[1.0, i % 5],
        )
        for i in range(60)
    ]
    others = [Document(id=f"x{i}", content="salle bâtiment", embedding=[1.0, 2.0], meta={"lot": 1}) for i in range(400)]
    fresh = QdrantEdgeDocumentStore(tmp_path / "fresh", 2, hybrid=True)
    fresh.write_documents(rooms)
    wanted = answers(fresh)
    store = QdrantEdgeDocumentStore(tmp_path / "store", 2, hybrid=True)
    store.write_documents(others[:200] + rooms[::-1] + others[200:])
    assert answers(store) != wanted
    store.delete_documents([document.id for document in others[:200]])
    store.delete_by_filter({"field": "meta.lot", "operator": "==", "value": 1})
    assert answers(store) == wanted
    for _ in range(5):
        store.write_documents(rooms[10:30], DuplicatePolicy.OVERWRITE)
    assert answers(store) == wanted
    store.close()
    assert answers(store) == wanted  # reopened
    store.delete_all_documents()
    store.write_documents(rooms)
    assert answers(store) == wanted
    store.close()
    fresh.close()


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("école", "e\u0301cole"),
        ("règlement intérieur", "règle\u00adment inté\u200brieur"),
        ("règlement", "\ufeffrègle\u2060ment\u200e"),
        ("Cœur de l'école", "cœur de l\u2019école"),
        ("l'école", "l\u02bcécole"),
        ("don't shout", "don\u2019t shout"),
        ("The landlord\u02bcs key", "the landlord's key"),
        ("a ☂\ufe0f umbrella", "a ☂ umbrella"),
    ],
)
def test_words_that_look_the_same_are_the_same(written: str, asked: str) -> None:
    words = document_words(written)[WORDS].indices
    assert sorted(question_words(asked).indices) == sorted(words)
    assert sorted(document_words(asked)[WORDS].indices) == sorted(words)
