"""The ranker's training by grids: the shared forward against joined pairs, the loss by hand, what a grid holds."""

import math
from collections.abc import Sequence
from typing import Any

import bm25s
import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForSequenceClassification, BloomModel

from bloomz_haystack.training.config import DataConfig, LossConfig, RunConfig, Source, TrainConfig
from bloomz_haystack.training.data.drawn_batches import batches
from bloomz_haystack.training.data.rows import Negative, TokenRow, TrainingRow
from bloomz_haystack.training.data.sampling import RowSampler
from bloomz_haystack.training.data.sources import TokenRows
from bloomz_haystack.training.data.word_exchange import BAND, KEPT, WordExchange
from bloomz_haystack.training.objectives import shared_prefix
from bloomz_haystack.training.objectives.listwise import Grids, ListwiseObjective, Neighbours
from bloomz_haystack.training.objectives.losses import listwise_cross_entropy
from bloomz_haystack.training.objectives.shared_prefix import SharedPassage, shared_states
from bloomz_haystack.training.tiny import negatives
from bloomz_haystack.training.tiny.bag import TokenBag
from bloomz_haystack.training.tiny.bm25 import K1, B, TokenBm25
from bloomz_haystack.training.tiny.hybrid_prior import VECTOR_SHARE, WORD_SHARE, HybridPrior
from bloomz_haystack.training.tiny.new_ranker import new_ranker
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

VOCABULARY = 60


def texts(rng: np.random.Generator, count: int, longest: int) -> list[TokenIds]:
    """Return random token ids of different lengths, at least one token."""
    return [rng.integers(4, VOCABULARY, size=int(rng.integers(1, longest + 1))) for _ in range(count)]


def difference(heads: int, device: str = "cpu") -> tuple[float, float]:
    """Largest difference of the shared forward from joined pairs: of the states, of the gradients by their largest."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = BloomModel(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=48, n_layer=3, n_head=heads, initializer_range=0.1)
    ).to(device)
    asked = [SharedPassage(context, texts(rng, 4, 6)) for context in texts(rng, 3, 20)]
    shared = shared_states(model, asked)
    weights = torch.randn_like(shared)
    (shared * weights).sum().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    pairs = [np.concatenate([item.passage, question]) for item in asked for question in item.questions]
    joined = last_hidden_states(model, pack(pairs).to(model.device)).view_as(shared)
    (joined * weights).sum().backward()
    wanted = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    off = max(float((found[name] - gradient).abs().max()) for name, gradient in wanted.items())
    return float((shared - joined).detach().abs().max()), off / largest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_shares_the_forward_too() -> None:
    states, gradients = difference(2, "cuda")
    assert states < 1e-4
    assert gradients < 1e-4


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_the_shared_forward_gives_the_states_and_gradients_of_joined_pairs(heads: int) -> None:
    states, gradients = difference(heads)
    assert states < 1e-5
    assert gradients < 1e-5


def test_a_question_that_stood_at_the_wrong_place_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_prefix, "alibi_slopes", lambda heads, _: torch.full((heads,), 1e-6))
    assert difference(2)[0] > 1e-3


def test_the_listwise_loss_by_hand() -> None:
    odds = torch.tensor([[2.0, 0.0, 5.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    known = torch.ones(3, 3, dtype=torch.bool)
    known[0, 2] = False  # the same passage as the first: no negative
    rows = [
        math.log(1 + math.exp(-2.0)),
        math.log(1 + math.exp(-2.0) + math.exp(-3.0)),
        math.log(1 + 2 * math.exp(-1.0)),
    ]
    assert float(listwise_cross_entropy(odds, known)) == pytest.approx(sum(rows) / 3)


def row(number: int, near: Sequence[int] = (), *, parallel: bool = False) -> TokenRow:
    """Return a row whose texts are its number, in English above 100 in French above 200."""
    sides: dict[str, Any] = {"english": np.array([100 + number]), "french": np.array([200 + number])}
    negatives = [Negative(sides, 0.0, other) for other in near]
    return TrainingRow(sides, sides, number, parallel, negatives)


def objective(rows: Sequence[TokenRow], shuffled_words: float = 0.0, **data: Any) -> ListwiseObjective:  # noqa: ANN401
    """Return an objective over rows, of grids of 4; `prior` may be among the settings of the data."""
    prior = data.pop("prior", None)
    shape = {"vocab_size": 300, "hidden_size": 32, "n_layer": 3, "n_head": 2}
    log_idf = np.linspace(-1.0, 1.0, 300)
    model = new_ranker(shape, torch.randn(300, 32), log_idf, (1, 2), seed=0)
    config = TrainConfig(
        data=DataConfig(max_length=40, **data),
        loss=LossConfig(grid=4, shuffled_words=shuffled_words, prior=6.0 if prior else 0.0),
        run=RunConfig(batch_size=32, seed=0),
    )
    sampler = RowSampler([TokenRows(Source("made up"), list(rows))], np.zeros(300, dtype=bool), config.data, 0)
    return ListwiseObjective(model, sampler, rows, rows, SpecialTokens([1], [2], []), config, prior)


def test_a_grid_asks_all_its_questions_of_all_its_contexts_in_one_pair_of_languages() -> None:
    rows = [row(number, [other for other in range(20) if other // 4 == number // 4]) for number in range(20)]
    batch = objective(rows).batch(3)
    assert batch.groups.shape == (2, 4)  # 32 pairs
    assert len(batch.texts) == 8
    for grid, groups in zip((batch.texts[:4], batch.texts[4:]), batch.groups, strict=True):
        assert len(set(groups)) == 4
        for asked, group in zip(grid, groups, strict=True):
            assert asked.passage.tolist()[::2] == [1, 2]
            assert asked.passage[1] % 100 == group
            assert [int(question[0]) % 100 for question in asked.questions] == groups.tolist()
        assert len({int(asked.passage[1]) // 100 for asked in grid}) == 1
        assert len({int(question[0]) // 100 for question in grid[0].questions}) == 1
    again = objective(rows).batch(3)
    assert np.array_equal(again.groups, batch.groups)


def test_a_grid_is_filled_from_the_neighbourhoods_of_its_seeds_then_from_any_rows() -> None:
    rows = [row(number, [other for other in range(12) if other // 3 == number // 3]) for number in range(12)]
    rng = np.random.default_rng(0)
    near = Neighbours(rows)
    assert {each.group // 3 for each in near.fill([rows[0], rows[7]], 6, rng)} == {0, 2}
    assert len({each.group for each in near.fill([rows[0], rows[7]], 9, rng)}) == 9
    assert len(near.fill([rows[0], rows[7]], 40, rng)) == 12  # all that there are
    mixed = [*rows, row(50, parallel=True)]
    assert [each.group for each in Neighbours(mixed).fill([mixed[-1], rows[0]], 4, rng)] == [50]


def test_a_sentence_stands_among_others_of_its_language() -> None:
    rows = [row(number, [(number + 1) % 30], parallel=True) for number in range(30)]
    batch = objective(rows).batch(0)
    for grid in (batch.texts[:4], batch.texts[4:]):
        for asked, own in zip(grid, [question[0] for question in grid[0].questions], strict=True):
            inside = asked.passage[1:-1]
            assert len({int(token) // 100 for token in inside}) == 1
            assert 3 <= len(inside) <= 11
            assert int(own) % 100 in inside % 100
            assert int(own) // 100 != int(inside[0]) // 100  # it asks for its translation


def test_the_loss_of_a_grid_leaves_other_copies_of_the_right_passage_out() -> None:
    learner = objective([row(number) for number in range(8)])
    outputs = torch.zeros(4, 8)
    batch = Grids([], np.array([[0, 1, 2, 0]]), np.array([False]))
    outputs[3, 1] = 50.0  # passage 3, a copy of passage 0, looks very relevant to question 0
    wanted = (2 * math.log(3) + 2 * math.log(4)) / 4 + math.log(2)
    assert float(learner.loss(outputs, batch)) == pytest.approx(wanted)
    outputs[2, 1] = 50.0  # a true negative
    assert float(learner.loss(outputs, batch)) > 10


def hybrid_prior(passages: Sequence[TokenIds]) -> HybridPrior:
    """Make the prior of a random bag."""
    bag = TokenBag({"vocab_size": 300, "hidden_size": 64, "n_layer": 2, "n_head": 1}, np.zeros(300), seed=0)
    return HybridPrior(bag, passages, 300)


def test_the_prior_is_what_a_hybrid_search_says_of_a_grid() -> None:
    rng = np.random.default_rng(0)
    passages, asked = texts(rng, 6, 20), texts(rng, 6, 5)
    prior = hybrid_prior(passages)
    plain, exchanged = (
        prior.shortfall(asked, passages, 3, torch.tensor([each, each])).numpy() for each in (False, True)
    )
    assert plain.shape == (2, 3, 3)
    vectors = [prior._bag([ids])[0].numpy() for ids in (*asked, *passages)]
    centred = [each - each.mean() for each in vectors]
    unit = [each / np.linalg.norm(each) for each in centred]
    lengths = np.array([len(ids) for ids in passages])
    frequency = np.array([sum(token in ids for ids in passages) for token in range(300)])
    idf = np.log(1 + (6 - frequency + 0.5) / (frequency + 0.5))
    for question, ids in enumerate(asked):
        grid, kinds = range(3 * (question // 3), 3 * (question // 3) + 3), np.unique(ids)
        words = []
        for place in grid:
            counts = np.array([(passages[place] == token).sum() for token in kinds])
            norm = K1 * (1 - B + B * lengths[place] / lengths.mean())
            words.append(float((idf[kinds] * counts * (K1 + 1) / (counts + norm)).sum()))
        held = np.isin(kinds, passages[grid[int(np.argmax(words))]])
        covered = float(idf[kinds][held].sum() / idf[kinds].sum())
        by_words = covered * np.array(words) / max(*words, 1e-6)
        cosines = np.array([max(float(unit[question] @ unit[6 + place]), 0.0) for place in grid])
        fused = WORD_SHARE * by_words + VECTOR_SHARE * cosines
        np.testing.assert_allclose(plain[question // 3, question % 3], 1 - fused / max(*fused, 1e-6), atol=1e-4)
        alone = by_words / max(*by_words, 1e-6)  # words that are exchanged have no vectors
        np.testing.assert_allclose(exchanged[question // 3, question % 3], 1 - alone, atol=1e-4)


def test_half_of_the_listwise_loss_stands_beside_the_prior() -> None:
    rows = [row(number, [(number + 1) % 20, (number + 2) % 20, (number + 3) % 20]) for number in range(20)]
    prior = hybrid_prior([ids for each in rows for ids in each.positives.values()])
    alone, beside = objective(rows), objective(rows, prior=prior)
    batch = beside.batch(1)
    outputs = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    asked = [question for text in batch.texts[::4] for question in text.questions]
    passages = [text.passage[1:-1] for text in batch.texts]
    shortfall = prior.shortfall(asked, passages, 4, torch.tensor([False, False]))
    odds = outputs.view(2, 4, 4, 2).transpose(1, 2)
    odds = odds[..., 1] - odds[..., 0]
    known = torch.ones(2, 4, 4, dtype=torch.bool)
    plain, mixed = listwise_cross_entropy(odds, known), listwise_cross_entropy(odds - 6.0 * shortfall, known)
    assert abs(float(plain - mixed)) > 0.05
    wanted = float(alone.loss(outputs, batch)) + float(mixed - plain) / 2
    assert float(beside.loss(outputs, batch)) == pytest.approx(wanted, abs=1e-5)
    with torch.no_grad():
        assert beside.validate(beside.compute) != alone.validate(alone.compute)


def test_training_by_grids_learns_and_validates() -> None:
    rows = [row(number, [other for other in range(24) if other % 3 == number % 3]) for number in range(24)]
    learner = objective(rows)
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        batch = learner.batch(step)
        loss = learner.loss(learner.compute(batch.texts), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    with torch.no_grad():
        found = learner.validate(learner.compute)
    assert 0.0 < found["validation_top1"] <= found["validation_mrr"] <= 1.0


def test_batches_drawn_by_other_processes_are_the_same() -> None:
    rows = [row(number, [(number + 1) % 20, (number + 2) % 20, (number + 3) % 20]) for number in range(20)]
    draw = objective(rows).batch
    here, elsewhere = (list(batches(draw, 2, 8, workers)) for workers in (0, 2))
    assert len(here) == len(elsewhere) == 6
    for one, other in zip(here, elsewhere, strict=True):
        assert np.array_equal(one.groups, other.groups)
        for mine, theirs in zip(one.texts, other.texts, strict=True):
            assert np.array_equal(mine.passage, theirs.passage)
            assert np.array_equal(np.concatenate(mine.questions), np.concatenate(theirs.questions))
    assert not np.array_equal(here[0].groups, here[1].groups)


def test_words_are_exchanged_for_others_about_as_frequent() -> None:
    counts = np.arange(2000)[::-1] + 1  # the lower the token, the more frequent
    words = WordExchange([np.repeat(np.arange(2000), counts)], 2000, special=4)
    exchange = words.draw(np.random.default_rng(0))
    assert np.array_equal(np.sort(exchange), np.arange(2000))  # each stands for one
    assert np.array_equal(exchange[:KEPT], np.arange(KEPT))
    moved = np.abs(exchange - np.arange(2000))[KEPT:]
    assert 0 < moved.mean() <= moved.max() <= BAND
    assert (moved > 0).mean() > 0.98
    assert not np.array_equal(exchange, words.draw(np.random.default_rng(1)))


def test_a_grid_of_one_language_exchanges_the_same_words_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomz_haystack.training.data.word_exchange.KEPT", 0)
    rows = [row(number, [other for other in range(20) if other // 4 == number // 4]) for number in range(20)]
    monolingual = {"language_pairs": {"english-english": 1.0}}
    plain, shuffled = (objective(rows, share, **monolingual).batch(3).texts for share in (0.0, 1.0))
    assert not np.array_equal(plain[0].passage, shuffled[0].passage)
    for one, other in zip(plain, shuffled, strict=True):
        assert other.passage.tolist()[::2] == [1, 2]  # the marks stay
        own = [int(question[0]) == int(one.passage[1]) for question in one.questions]
        assert own == [int(question[0]) == int(other.passage[1]) for question in other.questions]
        assert sum(own) == 1
    across = {"language_pairs": {"english-french": 1.0}}
    plain, shuffled = (objective(rows, share, **across).batch(3).texts for share in (0.0, 1.0))
    assert all(np.array_equal(one.passage, other.passage) for one, other in zip(plain, shuffled, strict=True))


def test_a_new_ranker_needs_its_shape() -> None:
    with pytest.raises(ValueError, match="n_layer >= 3 and n_head 2"):
        new_ranker(
            {"vocab_size": 9, "hidden_size": 32, "n_layer": 3, "n_head": 1}, torch.randn(9, 8), np.ones(9), (1, 2), 0
        )


def words_found(model: BloomForSequenceClassification, context: Sequence[int], question: Sequence[int]) -> float:
    """Return the score of a pair."""
    ids = torch.tensor([[1, *context, 2, *question]])
    with torch.no_grad():
        logits = model(ids).logits[0]
    return float(logits[1] - logits[0])


def test_a_layer_more_adds_nothing_at_first() -> None:
    vectors = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    shape = {"vocab_size": 300, "hidden_size": 64, "n_layer": 4, "n_head": 2}
    model = new_ranker(shape, vectors, np.linspace(-1, 1, 300), (1, 2), seed=0).eval()
    pair = ([*range(20, 60), 260], [260, 270])
    whole = words_found(model, *pair)
    del model.transformer.h[2]
    assert words_found(model, *pair) == pytest.approx(whole, abs=1e-4)
    del model.transformer.h[1]  # negative control
    assert abs(words_found(model, *pair) - whole) > 1e-2


def test_a_new_ranker_saturates_and_minds_little_where_a_word_stands() -> None:
    shape = {"vocab_size": 300, "hidden_size": 256, "n_layer": 3, "n_head": 2}
    generator = torch.Generator().manual_seed(0)
    model = new_ranker(shape, torch.randn(300, 256, generator=generator), np.linspace(-1, 1, 300), (1, 2), 0).eval()
    filler = np.random.default_rng(0).integers(10, 250, size=150).tolist()
    none = words_found(model, filler, [260, 270])

    def found(*words: int, at: int) -> float:
        return words_found(model, [*filler[:at], *words, *filler[at:]], [260, 270]) - none

    early, late = found(260, at=30), found(260, at=110)
    assert 0 < early < late < 1.5 * early  # ALiBi alone would give e^(80/256), and far more below saturation
    assert found(260, 270, at=70) > 1.5 * found(260, 260, at=70)


def test_bm25_by_hand() -> None:
    passages = [np.array([5, 6, 6, 6]), np.array([5, 7]), np.array([8, 9, 9, 5])]
    scores = TokenBm25(passages, torch.device("cpu")).scores([np.array([6, 6, 5]), np.array([9]), np.array([11, 4])])

    def share(count: int, length: int, holding: int) -> float:
        idf = math.log(1 + (3 - holding + 0.5) / (holding + 0.5))
        return idf * count * (K1 + 1) / (count + K1 * (1 - B + B * length / (10 / 3)))

    common = [share(1, length, 3) for length in (4, 2, 4)]
    wanted = [
        [share(3, 4, 1) + common[0], common[1], common[2]],  # a token asked twice counts once
        [0, 0, share(2, 4, 1)],
        [0, 0, 0],  # one token that no passage holds, one beyond the vocabulary seen
    ]
    assert scores.tolist() == [pytest.approx(row) for row in wanted]


def test_bm25_gives_the_scores_of_bm25s() -> None:
    rng = np.random.default_rng(0)
    passages, questions = texts(rng, 200, 30), texts(rng, 50, 6)
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index([[str(token) for token in ids] for ids in passages], show_progress=False)
    scores = TokenBm25(passages, torch.device("cpu")).scores(questions).numpy()
    for own, question in zip(scores, questions, strict=True):
        known = [str(token) for token in np.unique(question) if str(token) in index.vocab_dict]
        theirs = index.get_scores(known) * (K1 + 1)  # Lucene leaves this factor out: the order is the same
        np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-6)


def test_negatives_come_from_vectors_and_from_words_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "DEPTH", 2)
    tokens = {0: [1, 2], 1: [1, 3, 3], 2: [4, 5], 3: [6, 7], 4: [1, 2, 3]}
    rows = [
        TrainingRow({"english": np.array([1, 3])} if not number else {}, {"english": np.array(ids)}, number, False)
        for number, ids in tokens.items()
    ]
    near = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.8, 0.3], [-1.0, 0.0]])  # of the passages

    def encode(texts: Sequence[TokenIds]) -> torch.Tensor:
        places = [next((n for n, ids in tokens.items() if list(text) == ids), 0) for text in texts]
        return near[places]

    first, *_ = negatives.find_negatives(rows, encode, seed=0)
    # By vectors 0 (itself), 2; by words 1, which holds 3 twice, and 4.
    assert [negative.group for negative in first.negatives] == [1, 2, 4]
    assert negatives.find_negatives([], encode, seed=0) == []
