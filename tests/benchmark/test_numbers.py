"""Ranks, figures, intervals, tests and thresholds, each against a slow plain way, by hand or by another library."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import bootstrap

from bloomz_haystack.benchmark.figures.abstention import (
    abstention_curve,
    best_point,
    expected_calibration_error,
    point_at,
)
from bloomz_haystack.benchmark.figures.metrics import NAMES, figures
from bloomz_haystack.benchmark.figures.significance import bootstrap_intervals, paired_p_value
from bloomz_haystack.benchmark.run import ranking
from bloomz_haystack.benchmark.run.ranking import ROUNDING, Part, Ranking, fused_scores, rank, rank_vectors, rerank
from haystack_integrations.document_stores.qdrant_edge.fusion import Scale

Vectors = npt.NDArray[np.float32]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut 40 questions x 500 passages into blocks of seven questions, the last one ragged."""
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 7 * 500 * 4)


def plain_scores(queries: Vectors, passages: Vectors, metric: str) -> npt.NDArray[np.float64]:
    """Score every pair in float64, one matrix."""
    q, p = queries.astype(np.float64), passages.astype(np.float64)
    if metric == "l2":
        return -np.sqrt(np.square(q[:, None] - p[None]).sum(2))
    if metric == "cosine":
        q, p = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, p))
    return q @ p.T


def gold_ranks(scores: npt.NDArray[np.floating], gold: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rank of the right passage of each question; a tie counts as half a place."""
    own = scores[np.arange(len(gold)), gold][:, None]
    return 1.0 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def plain_ranking(scores: npt.NDArray[np.floating], gold: npt.NDArray[np.int64], k: int) -> Ranking:
    """Rank by the full matrix and a stable argsort."""
    own = scores[np.arange(len(gold)), gold][:, None]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(scores, best, 1)
    return Ranking(gold_ranks(scores, gold), 1 + (scores > own).sum(1), best, kept.astype(np.float32))


def assert_same(got: Ranking, expected: Ranking, atol: float = 0.0) -> None:
    np.testing.assert_array_equal(got.fair, expected.fair)
    np.testing.assert_array_equal(got.optimistic, expected.optimistic)
    np.testing.assert_array_equal(got.candidates, expected.candidates)
    np.testing.assert_allclose(got.candidate_scores, expected.candidate_scores, rtol=0, atol=atol)


def whole_vectors(rows: int, rng: np.random.Generator) -> Vectors:
    """Small integers: products are exact, equal scores many."""
    return rng.integers(-2, 3, (rows, 6)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 100, 500])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
@pytest.mark.usefixtures("small_blocks")
def test_blocked_ranks_equal_a_full_sort_with_ties(k: int, order: str) -> None:
    rng = np.random.default_rng(0)
    queries, passages, gold = whole_vectors(40, rng), whole_vectors(500, rng), rng.integers(0, 500, 40)
    if order != "random":  # equal scores stand side by side
        queries = np.abs(queries)
        passages = passages[np.argsort(passages.sum(1))[:: 1 if order == "rising" else -1]]
    scores = plain_scores(queries, passages, "dot").astype(np.float32)
    expected = plain_ranking(scores, gold, k)
    assert (expected.fair != expected.optimistic).mean() > 0.5  # ties there are
    assert_same(rank_vectors(queries, passages, gold, "dot", k), expected)
    assert_same(rank(lambda start, stop: scores[start:stop], gold, 500, k), expected)


@pytest.mark.parametrize(("metric", "shift"), [("cosine", 0), ("dot", 0), ("l2", 0), ("l2", 30), ("cosine", 1)])
@pytest.mark.usefixtures("small_blocks")
def test_blocked_ranks_equal_a_full_sort_in_float64(metric: str, shift: int) -> None:
    """With a large common mean, as the vectors of a language model have; some passages stored twice."""
    rng = np.random.default_rng(1)
    queries, passages = (rng.normal(size=(n, 32)).astype(np.float32) + np.float32(shift) for n in (40, 500))
    passages[400:450], gold = passages[:50], rng.integers(0, 50, 40)
    queries += 0.3 * passages[gold]
    scores = plain_scores(queries, passages, metric)
    expected = plain_ranking(scores, gold, 20)
    got = rank_vectors(queries, passages, gold, metric, 20)
    own = scores[np.arange(40), gold][:, None]
    if metric == "l2":  # ranked by half the squared distance; the margin is far smaller than any gap here
        np.testing.assert_array_equal(got.fair, expected.fair)
    else:
        norms = 1 if metric == "cosine" else np.linalg.norm(queries, axis=1) * np.linalg.norm(passages[gold], axis=1)
        margin = ROUNDING * np.broadcast_to(norms, 40)[:, None]
        above, level = (scores > own + margin).sum(1), (np.abs(scores - own) <= margin).sum(1)
        np.testing.assert_array_equal(got.fair, 1 + above + (level - 1) / 2)
    np.testing.assert_allclose(got.fair, expected.fair, rtol=0, atol=0.5)  # what the rule may cost
    assert (got.fair - got.optimistic >= 0.5).all()  # each right passage ties with its copy
    np.testing.assert_allclose(got.candidate_scores, expected.candidate_scores, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("broken", ["block", "ties"])
@pytest.mark.usefixtures("small_blocks")
def test_a_block_or_a_tie_lost_is_seen(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Negative control: the second block ranked with the questions of the first; the ties left to `topk`."""
    rng = np.random.default_rng(0)
    queries, passages, gold = whole_vectors(40, rng), whole_vectors(500, rng), rng.integers(0, 500, 40)
    expected = plain_ranking(plain_scores(queries, passages, "dot"), gold, 5)
    assert_same(rank_vectors(queries, passages, gold, "dot", 5), expected)
    if broken == "block":
        monkeypatch.setattr(ranking, "_blocks", lambda *_: [slice(0, 7), slice(0, 7), slice(14, 40)])
    else:
        monkeypatch.setattr(ranking, "_best", lambda scores, k: scores.topk(k).indices)
    with pytest.raises(AssertionError):
        assert_same(rank_vectors(queries, passages, gold, "dot", 5), expected)


def test_distances_survive_a_mean_that_dwarfs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without moving the mean to the origin, ranks are off by tens."""
    rng = np.random.default_rng(1)
    queries, passages = (rng.normal(size=(n, 32)).astype(np.float32) + np.float32(300) for n in (40, 500))
    gold = rng.integers(0, 500, 40)
    expected = gold_ranks(plain_scores(queries, passages, "l2"), gold)
    np.testing.assert_array_equal(rank_vectors(queries, passages, gold, "l2").fair, expected)
    monkeypatch.setattr(ranking, "_mean", lambda vectors: np.zeros(vectors.shape[1], np.float32))
    assert np.abs(rank_vectors(queries, passages, gold, "l2").fair - expected).max() > 10


def test_rank_refuses_what_it_cannot_rank() -> None:
    scores = np.zeros((4, 3), np.float32)
    scores[2, 1] = np.nan
    with pytest.raises(ValueError, match="scores of question 2, counted from 0, hold NaN"):
        rank(lambda start, stop: scores[start:stop], [0, 1, 2, 0], 3)
    with pytest.raises(ValueError, match="gold of question 1 is passage 3, outside the 3 passages"):
        rank(lambda start, stop: scores[start:stop], [0, 3], 3)
    with pytest.raises(ValueError, match=r"expected scores of shape \(2, 5\), but got \(2, 3\)"):
        rank(lambda start, stop: scores[start:stop], [0, 1], 5)
    with pytest.raises(ValueError, match="k must be > 0, but got 0"):
        rank(lambda start, stop: scores[start:stop], [0, 1], 3, 0)
    vectors = np.ones((5, 3), np.float32)
    broken = vectors.copy()
    broken[3, 0] = np.inf
    with pytest.raises(ValueError, match="vector of question 3, counted from 0, holds NaN or infinity"):
        rank_vectors(broken, vectors, [0] * 5, "cosine")
    with pytest.raises(ValueError, match="vector of passage 3, counted"):
        rank_vectors(vectors, broken, [0] * 5, "cosine")
    with pytest.raises(ValueError, match="'manhattan' is not known: choose from cosine, l2, dot"):
        rank_vectors(vectors, vectors, [0] * 5, "manhattan")
    with pytest.raises(ValueError, match=r"expected \(Q, D\) and \(P, D\) vectors, but got \(5, 3\) and \(5, 2\)"):
        rank_vectors(vectors, vectors[:, :2], [0] * 5, "dot")


def test_a_vector_of_zeros_ties_with_all() -> None:
    ranked = rank_vectors(np.zeros((1, 4), np.float32), np.eye(4, dtype=np.float32), [1], "cosine")
    assert (ranked.fair[0], ranked.optimistic[0]) == (2.5, 1)


def of(*scores: list[float]) -> Ranking:
    """Rank two passages' worth of scores with gold passage 0."""
    matrix = np.array(scores, np.float32)
    return rank(lambda start, stop: matrix[start:stop], [0] * len(matrix), matrix.shape[1], 3)


def part(ranking: Ranking, weight: float = 1, scale: Scale = "bm25", trust: tuple[float, ...] = ()) -> Part:
    """A ranking to fuse, trusted in every question if nothing is said."""
    return Part(ranking, weight, scale, np.array(trust or [1.0] * len(ranking.fair)))


def test_fusion_of_ranks_by_hand() -> None:
    """Five passages, three candidates each; the right one is passage 0. Scores are told as shares of the highest."""
    fused = fused_scores([part(of([9, 8, 7, 0, 0])), part(of([0, 8, 7, 9, 0]))], 5, "rrf", 60)(0, 1)[0]
    expected = np.array([1 / 61, 2 / 62, 2 / 63, 1 / 61, -2 / 61]) * 61 / 2
    np.testing.assert_allclose(fused, expected, rtol=1e-6)
    shared = fused_scores([part(of([9, 9, 7, 0, 0]))], 5, "rrf", 0)(0, 1)[0]
    np.testing.assert_allclose(shared, [1 / 1.5, 1 / 1.5, 1 / 3, -1, -1], rtol=1e-6)
    first, second = of([9, 8, 7], [9, 8, 7]), of([7, 9, 8], [7, 9, 8])
    weighed = fused_scores([part(first), part(second, 3, trust=(0, 1))], 3, "rrf", 1)(0, 2)
    np.testing.assert_allclose(weighed, [[1, 2 / 3, 1 / 2], [5 / 8, 11 / 12, 5 / 8]], rtol=1e-6)
    lost = of([9, 8, 7])
    lost = lost._replace(candidate_scores=np.where(lost.candidate_scores < 9, -np.inf, lost.candidate_scores))
    np.testing.assert_array_equal(fused_scores([part(lost)], 3, "rrf")(0, 1)[0], [1, -1, -1])


def test_fusion_of_scores_by_hand() -> None:
    """Two questions over five passages, three candidates each; passage 4 is found by neither."""
    near, matching = of([0.5, -0.2, 0.1, -0.9, -0.9], [0.5, 0, 0.1, -1, -1]), of([0, 8, 4, 6, 0], [0, 8, 4, 6, 0])
    parts = [part(near, 3, "cosine"), part(matching, 1, trust=(1, 0.5))]
    told = fused_scores(parts, 5, "convex")(0, 2)
    expected = [[1.5, 1, 0.3 + 0.5, 0.75, -4], [1.5, 0.5, 0.3 + 0.25, 0.375, -4]]
    np.testing.assert_allclose(told, np.array(expected) / 4, rtol=1e-6)
    np.testing.assert_array_equal(fused_scores(parts, 5, "convex")(1, 2), told[1:])
    ranked = rank(fused_scores([part(near, 1, "cosine")], 5, "convex"), [1, 3], 5)
    assert ranked.fair.tolist() == [3, 4.5]  # a cosine below 0 shares nothing, but was found


def test_a_right_passage_in_nobodys_candidates_stands_in_the_middle_of_the_rest() -> None:
    first, second = of([0, 9, 8, 7, 1, 1, 1]), of([0, 9, 8, 7, 1, 1, 1])
    ranked = rank(fused_scores([part(first), part(second)], 7, "rrf", 60), [0], 7)
    assert (ranked.fair[0], ranked.optimistic[0]) == (5.5, 4)  # places 4..7


@pytest.mark.usefixtures("small_blocks")
def test_fusion_over_all_passages_equals_a_plain_one() -> None:
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 50, 40)
    matrices = [rng.integers(0, 9, (40, 50)).astype(np.float32) for _ in range(3)]
    rankings = [plain_ranking(matrix, gold, 50) for matrix in matrices]
    plain = sum(np.stack([1 / (60 + gold_ranks(m, np.full(40, p))) for p in range(50)], 1) for m in matrices)
    assert isinstance(plain, np.ndarray)
    expected = plain_ranking((plain * 61 / 3).astype(np.float32), gold, 10)
    parts = [part(ranking) for ranking in rankings]
    assert_same(rank(fused_scores(parts, 50, "rrf", 60), gold, 50, 10), expected)
    flipped = rank(fused_scores(parts[::-1], 50, "rrf", 60), gold, 50, 10)
    np.testing.assert_array_equal(flipped.fair, expected.fair)
    with pytest.raises(ValueError, match="rankings of the same questions"):
        fused_scores([parts[0], part(of([1, 2, 3]))], 50, "rrf")


def test_reranking_by_hand() -> None:
    """Gold is passage 0; the ranker sees two of the three candidates."""
    first = of([9, 8, 7, 1], [7, 8, 9, 1], [1, 8, 9, 7], [8, 9, 8, 8], [7, 9, 7, 7])
    assert first.candidates.tolist() == [[0, 1, 2], [2, 1, 0], [2, 1, 3], [1, 0, 2], [1, 0, 2]]
    probabilities = np.array([[0.2, 0.9], [0.9, 0.2], [0.5, 0.6], [0.5, 0.5], [0.1, 0.7]])
    after = rerank(first, [0] * 5, probabilities)
    assert after.candidates.tolist() == [[1, 0, 2], [2, 1, 0], [1, 2, 3], [1, 0, 2], [0, 1, 2]]
    assert after.fair.tolist() == [2, 3, 4, 1.5, 1]
    assert after.optimistic.tolist() == [2, 3, 4, 1, 1]
    assert after.candidate_scores[2].tolist() == pytest.approx([0.6, 0.5, -1])


def test_a_tie_cut_by_the_rankers_depth_is_settled_against_the_right_passage() -> None:
    """Gold 3 ties with 1 and 2 for places 2..4; the ranker sees 0 and 1, so gold is third or fourth."""
    scores = np.array([[9, 5, 5, 5, 1]], np.float32)
    first = rank(lambda start, stop: scores[start:stop], [3], 5, 2)
    assert (first.fair[0], first.optimistic[0]) == (3, 2)
    after = rerank(first, [3], np.array([[0.1, 0.2]]))
    assert (after.fair[0], after.optimistic[0]) == (3.5, 3)


def test_reranking_all_equals_ranking_by_probability() -> None:
    rng = np.random.default_rng(3)
    gold, scores = rng.integers(0, 30, 20), rng.integers(0, 5, (20, 30)).astype(np.float32)
    first = plain_ranking(scores, gold, 30)
    probabilities = rng.integers(0, 9, (20, 30)) / 8  # of passages
    after = rerank(first, gold, np.take_along_axis(probabilities, first.candidates, 1))
    expected = plain_ranking(probabilities, gold, 30)
    np.testing.assert_array_equal(after.fair, expected.fair)
    np.testing.assert_array_equal(after.optimistic, expected.optimistic)
    with pytest.raises(AssertionError):  # negative control: probabilities given by passage, not by candidate
        np.testing.assert_array_equal(rerank(first, gold, probabilities).fair, expected.fair)


def test_rerank_refuses_what_does_not_fit() -> None:
    first = of([9, 8, 7], [9, 8, 7])
    with pytest.raises(ValueError, match="question 1, counted from 0, hold NaN"):
        rerank(first, [0, 0], np.array([[0.1, 0.2], [0.3, np.nan]]))
    with pytest.raises(ValueError, match=r"expected probabilities of shape \(2, 1..3\), but got \(2, 4\)"):
        rerank(first, [0, 0], np.zeros((2, 4)))
    with pytest.raises(ValueError, match="one gold passage a question"):
        rerank(first, [0], np.zeros((2, 2)))


def test_figures_by_hand() -> None:
    got = figures([1, 2, 12])
    expected = {
        "top_mean": 5.0,
        "top_std": np.sqrt((16 + 9 + 49) / 3),
        "top_1": 100 / 3,
        "top_5": 200 / 3,
        "top_10": 200 / 3,
        "top_100": 100.0,
        "mrr": 100 * (1 + 1 / 2 + 1 / 12) / 3,
        "ndcg_10": 100 * (1 + 1 / np.log2(3)) / 3,
        "recall_100": 100.0,
    }
    assert got == pytest.approx(expected)
    assert tuple(got) == NAMES
    assert figures([1.5])["top_1"] == 0  # tied for the first place: not surely first


@pytest.mark.parametrize("ranks", [[], [1, 0], [1, np.nan], [[1, 2]]])
def test_broken_ranks_are_refused(ranks: list[float]) -> None:
    with pytest.raises(ValueError, match="rank"):
        figures(ranks)


def test_figures_equal_ir_measures() -> None:
    ir = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(4)
    scores, gold = rng.normal(size=(60, 200)), rng.integers(0, 200, 60)
    scores[np.arange(60), gold] += 2
    run = {f"q{q}": {f"p{p}": float(scores[q, p]) for p in range(200)} for q in range(60)}
    qrels = {f"q{q}": {f"p{gold[q]}": 1} for q in range(60)}
    wanted = {
        "mrr": ir.RR,
        "ndcg_10": ir.nDCG @ 10,
        "recall_100": ir.R @ 100,
        "top_1": ir.Success @ 1,
        "top_5": ir.Success @ 5,
        "top_10": ir.Success @ 10,
        "top_100": ir.Success @ 100,
    }
    theirs = ir.calc_aggregate(list(wanted.values()), qrels, run)
    ours = figures(gold_ranks(scores, gold))
    assert {name: ours[name] for name in wanted} == pytest.approx({n: 100 * theirs[m] for n, m in wanted.items()})
    shifted = figures(gold_ranks(scores, gold) + 1)  # negative control
    assert shifted["mrr"] != pytest.approx(100 * theirs[ir.RR], abs=1)


@pytest.fixture(scope="module")
def ranks() -> npt.NDArray[np.float64]:
    """Give ranks of 300 questions with a long tail and half places."""
    rng = np.random.default_rng(5)
    return np.clip(np.ceil(2 * rng.pareto(0.8, 300)) / 2 + 0.5, 1, 1204)


def test_intervals_equal_scipys_bootstrap(ranks: npt.NDArray[np.float64]) -> None:
    ours = bootstrap_intervals(ranks)
    for name, values, statistic in (
        ("mrr", 100 / ranks, np.mean),
        ("top_10", 100.0 * (ranks <= 10), np.mean),
        ("top_mean", ranks, np.mean),
        ("top_std", ranks, np.std),
    ):
        theirs = bootstrap((values,), statistic, method="percentile", batch=500, n_resamples=9999, rng=0)
        low, high = theirs.confidence_interval
        assert ours[name] == pytest.approx((low, high), abs=0.04 * (high - low)), name
    for name, value in figures(ranks).items():
        assert ours[name][0] <= value <= ours[name][1]


def test_intervals_are_seeded_and_checked(ranks: npt.NDArray[np.float64], monkeypatch: pytest.MonkeyPatch) -> None:
    once = bootstrap_intervals(ranks, 500, seed=3)
    assert once == bootstrap_intervals(ranks, 500, seed=3) != bootstrap_intervals(ranks, 500, seed=4)
    monkeypatch.setattr(
        "bloomz_haystack.benchmark.figures.significance.BATCH_ELEMENTS", 1000
    )  # small batches, same draws
    batched = bootstrap_intervals(ranks, 500, seed=3)
    np.testing.assert_allclose(list(batched.values()), list(once.values()))
    wide, narrow = (bootstrap_intervals(ranks, 500, level)["mrr"] for level in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    with pytest.raises(ValueError, match="level must be between 0 and 1, but got 95"):
        bootstrap_intervals(ranks, level=95)


def test_p_value_by_trying_every_swap() -> None:
    one, other = np.array([1, 2, 1, 4, 1, 3, 1, 1.0]), np.array([2, 1, 5, 9, 2, 4, 1, 7.0])
    difference = 1 / one - 1 / other
    swaps = [abs(np.dot(signs, difference)) for signs in itertools.product((1, -1), repeat=8)]
    expected = np.mean(np.array(swaps) >= abs(difference.sum()) - 1e-12)
    assert paired_p_value(one, other) == pytest.approx(expected)
    assert paired_p_value(other, one) == pytest.approx(expected)


def test_p_value_tells_a_difference_from_noise(ranks: npt.NDArray[np.float64]) -> None:
    rng = np.random.default_rng(6)
    assert paired_p_value(ranks, ranks) == 1.0
    assert paired_p_value([1, 2, 3], [1, 2, 9]) == 1.0  # one difference alone tells nothing
    assert paired_p_value(ranks, ranks + 1) == pytest.approx(2 / 10_000)  # both sides of the smallest possible
    noise = [paired_p_value(rng.choice(ranks, 300), rng.choice(ranks, 300), 499, i) for i in range(40)]
    assert 0.25 < np.mean(noise) < 0.75  # uniform under the null
    with pytest.raises(ValueError, match="same questions, but got 300 and 299"):
        paired_p_value(ranks, ranks[1:])


def test_abstention_by_hand() -> None:
    """Four answerable questions, one of them answered wrong; two unanswerable; one tie at 0.6."""
    curve = abstention_curve([0.9, 0.8, 0.6, 0.3], [True, False, True, True], [0.6, 0.1])
    assert curve.threshold.tolist() == [0.9, 0.8, 0.6, 0.3, 0.1]
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 4, 3 / 5, 3 / 6])
    assert curve.coverage.tolist() == pytest.approx([1 / 6, 2 / 6, 4 / 6, 5 / 6, 1])
    assert curve.recall.tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
    harmonic = 2 * curve.precision * curve.recall / (curve.precision + curve.recall)
    np.testing.assert_allclose(curve.f1, harmonic)
    assert best_point(curve) == pytest.approx((0.3, 3 / 5, 5 / 6, 0.75, 2 / 3))
    assert point_at(curve, 0.7)[1:] == point_at(curve, 0.8)[1:]
    assert point_at(curve, 0.95)[2:] == (0, 0, 0)
    assert np.isnan(point_at(curve, 0.95).precision)


def test_the_best_threshold_equals_trying_them_all() -> None:
    rng = np.random.default_rng(7)
    known, silent, right = rng.random(80).round(2), 0.8 * rng.random(60).round(2), rng.random(80) < 0.7
    best = 0.0
    for threshold in np.unique(np.concatenate([known, silent])):
        hits, answered = (right & (known >= threshold)).sum(), (known >= threshold).sum() + (silent >= threshold).sum()
        precision, recall = hits / answered, hits / 80
        best = max(best, 2 * precision * recall / (precision + recall) if hits else 0)
    assert best_point(abstention_curve(known, right, silent)).f1 == pytest.approx(best)


def test_abstention_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="A > 0"):
        abstention_curve([], [], [0.1])
    with pytest.raises(ValueError, match="question 2, counted from 0, is NaN"):
        abstention_curve([0.1, 0.2], [True, True], [np.nan])
    assert abstention_curve([0.5], [True], []).f1.tolist() == [1.0]


def test_calibration_error_by_hand() -> None:
    assert expected_calibration_error([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], bins=2) == pytest.approx(0.1)
    assert expected_calibration_error([0.2, 0.3, 0.8, 1.0], [0, 1, 1, 0], bins=2) == pytest.approx((0.5 + 0.8) / 4)
    rng = np.random.default_rng(8)
    p = rng.random(200_000)
    assert expected_calibration_error(p, rng.random(200_000) < p) < 0.005
    assert expected_calibration_error(p, rng.random(200_000) < p**3) > 0.2
    with pytest.raises(ValueError, match=r"from 0 to 1, but got 1.5"):
        expected_calibration_error([0.5, 1.5], [0, 1])
