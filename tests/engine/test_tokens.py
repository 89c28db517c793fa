"""Token ids against the Hugging Face tokenizer; truncation, empty texts, odd texts."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from haystack_integrations.common.bloomz.checkpoint import Checkpoint, LoadSettings, close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.packing import pack, plan_batches
from haystack_integrations.common.bloomz.scorer import Scorer
from haystack_integrations.common.bloomz.tokens import special_tokens, tokenize, tokenize_pairs

MakeBloom = Callable[..., Path]

TEXTS = ["Où se trouve la tour Eiffel ?", "Where is the Eiffel tower?", " \n\t ", "🗼 e\u0301té </s> <pad>", "x"]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "template"])
def folder(request: pytest.FixtureRequest, make_bloom: MakeBloom) -> Path:
    """A checkpoint whose tokenizer adds nothing, as the published ones, then one that adds special tokens."""
    return make_bloom(ranker=True, template=request.param)


@pytest.fixture
def checkpoint(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), "rank", device="cpu")


def lists(token_ids: list[np.ndarray]) -> list[list[int]]:
    return [ids.tolist() for ids in token_ids]


@pytest.mark.parametrize("max_length", [2048, 9, 6])
def test_texts_and_pairs_equal_the_hugging_face_tokenizer(
    folder: Path, checkpoint: Checkpoint, max_length: int
) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = tokenize(checkpoint.tokenizer, TEXTS, max_length=max_length, empty_token=2)
    expected = [theirs(text, truncation=True, max_length=max_length)["input_ids"] for text in TEXTS]
    assert lists(ours.token_ids) == expected

    pairs = [(context, question) for context in TEXTS for question in ("x", "")]
    joined = tokenize_pairs(checkpoint.tokenizer, pairs, max_length=max_length, empty_token=2)
    # In lists: called with one pair whose question is "", the Hugging Face tokenizer takes the context for a lone text.
    expected = theirs(*map(list, zip(*pairs, strict=True)), truncation="only_first", max_length=max_length)["input_ids"]
    assert lists(joined.token_ids) == expected


def test_truncated_texts_are_counted(checkpoint: Checkpoint) -> None:
    full = tokenize(checkpoint.tokenizer, TEXTS, max_length=2048, empty_token=2)
    assert full.truncated == []
    longest = max(map(len, full.token_ids))
    cut = tokenize(checkpoint.tokenizer, TEXTS, max_length=longest - 1, empty_token=2)
    assert cut.truncated == [place for place, ids in enumerate(full.token_ids) if len(ids) == longest] != []


def test_an_empty_text_becomes_the_end_of_text_token(make_bloom: MakeBloom) -> None:
    checkpoint = open_checkpoint(str(make_bloom()), "embed", device="cpu")
    assert checkpoint.empty_token == 2
    assert lists(tokenize(checkpoint.tokenizer, ["", "é"], max_length=9, empty_token=2).token_ids)[0] == [2]
    assert lists(tokenize_pairs(checkpoint.tokenizer, [("", "")], max_length=9, empty_token=2).token_ids) == [[2]]
    vectors = Encoder(checkpoint).encode(["", "</s>", "été"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert np.isfinite(vectors).all()


def test_lone_surrogates_are_read_as_question_marks(checkpoint: Checkpoint) -> None:
    broken = tokenize(checkpoint.tokenizer, ["été \ud800", "summer"], max_length=64, empty_token=2)
    mended = tokenize(checkpoint.tokenizer, ["été ?", "summer"], max_length=64, empty_token=2)
    assert lists(broken.token_ids) == lists(mended.token_ids)
    assert np.isfinite(Scorer(checkpoint).score("Qui ? \udfff", ["été \ud800", "summer"])).all()


def test_a_text_of_a_million_characters(checkpoint: Checkpoint) -> None:
    long = tokenize(checkpoint.tokenizer, ["été summer " * 90_910], max_length=2048, empty_token=2)
    assert long.truncated == [0]
    assert len(long.token_ids[0]) == 2048


def test_a_word_of_a_million_characters(checkpoint: Checkpoint) -> None:
    """No space, so the tokenizer cannot split it into words first."""
    scores = Scorer(checkpoint, max_length=64).score("Où ?", ["e" * 1_000_000, "é"])
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("max_length", [16, 17, 40])
def test_a_question_too_long_loses_its_end_and_a_context_keeps_a_quarter(
    checkpoint: Checkpoint, max_length: int
) -> None:
    tokenizer, question = checkpoint.tokenizer, "Où est-ce ? Where is it? " * 9
    special = special_tokens(tokenizer, pair=True)
    room = max_length - sum(map(len, special))
    contexts = ["La Seine coule à Paris, au bord de la Seine. " * 3, "é", ""]
    pairs = [(context, question) for context in contexts]
    joined = tokenize_pairs(tokenizer, pairs, max_length=max_length, empty_token=2)
    asked = tokenizer.encode(question, add_special_tokens=False).ids
    for context, ids, kept in zip(contexts, lists(joined.token_ids), joined.kept, strict=True):
        body = tokenizer.encode(context, add_special_tokens=False).ids[: room // 4]
        expected = special.before + body + special.between + asked[: room - len(body)] + special.after
        assert ids == expected
        assert kept == len(special.before) + len(body)
        assert len(ids) == max_length
    assert (joined.truncated, joined.truncated_questions) == (1, 1)
    with pytest.raises(ValueError, match="shorten the question, raise max_length, or let it be cut"):
        tokenize_pairs(tokenizer, pairs, max_length=max_length, empty_token=2, cut_questions=False)
    long_enough = len(asked) + room // 4 + sum(map(len, special))
    whole = tokenize_pairs(tokenizer, pairs, max_length=2 * long_enough, empty_token=2, cut_questions=False)
    assert (whole.truncated, whole.truncated_questions) == (0, 0)


def test_a_pair_needs_room_for_two_tokens(checkpoint: Checkpoint) -> None:
    room = sum(map(len, special_tokens(checkpoint.tokenizer, pair=True)))
    with pytest.raises(ValueError, match=f"leave room for a context and a question, but got {room + 1}"):
        tokenize_pairs(checkpoint.tokenizer, [("é", "où")], max_length=room + 1, empty_token=2)


def test_a_pair_scores_alike_whatever_is_ranked_beside_it(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the question is cut; in one warning a call."""
    scorer = Scorer(checkpoint, max_length=40)
    question, contexts = "Bonjour, où est la Seine ? " * 20, ["La Seine. " * 30, "Paris", "The Eiffel tower " * 9]
    with caplog.at_level(logging.WARNING):
        together = scorer.score(question, contexts)
    assert [record.getMessage() for record in caplog.records] == [
        "the question was too long to be ranked within 40 tokens and lost its end, as did 2 of 3 contexts"
    ]
    alone = [scorer.score(question, [context])[0] for context in contexts]
    np.testing.assert_allclose(together, alone, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"a question of .* shorten the question"):
        Scorer(checkpoint, max_length=40, cut_questions=False).score(question, contexts)


def test_max_length_must_leave_room_for_a_token(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="at least 1 token, but got 0"):
        tokenize(checkpoint.tokenizer, ["été"], max_length=0, empty_token=2)


def test_the_end_of_a_long_text_is_cut_with_one_warning(tiny_bloom: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = open_checkpoint(str(tiny_bloom), "embed", device="cpu")
    texts = ["été " * 50, "summer " * 50, "x"]
    with caplog.at_level(logging.WARNING):
        cut = Encoder(checkpoint, max_length=5).encode(texts)
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 texts were longer than 5 tokens and lost their end"
    ]
    kept = tokenize(checkpoint.tokenizer, texts, max_length=5, empty_token=2).token_ids
    again = Encoder(checkpoint).encode([checkpoint.tokenizer.decode(ids.tolist()) for ids in kept])
    np.testing.assert_allclose(cut, again, atol=1e-5, rtol=0)
    close_checkpoint(checkpoint)


def test_only_the_context_of_a_pair_is_cut(tiny_ranker: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = open_checkpoint(str(tiny_ranker), "rank", device="cpu")
    question = "Where ?"
    asked = len(checkpoint.tokenizer.encode(question).ids)
    short = Scorer(checkpoint, max_length=asked + 3)
    with caplog.at_level(logging.WARNING):
        scores = short.score(question, ["été " * 50, "x"])
    assert "1 of 2 contexts were longer" in caplog.text
    kept = checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("été " * 50).ids[:3], skip_special_tokens=False)
    np.testing.assert_allclose(scores, Scorer(checkpoint).score(question, [kept, "x"]), atol=1e-4, rtol=0)
    close_checkpoint(checkpoint)


def test_max_length_is_the_seq_length_of_the_config(make_bloom: MakeBloom) -> None:
    assert open_checkpoint(str(make_bloom(seq_length=77)), "embed", device="cpu").max_length == 77
    assert open_checkpoint(str(make_bloom(seq_length=None)), "embed", device="cpu").max_length == 2048
    settings = LoadSettings(config_kwargs={"seq_length": 33})
    assert open_checkpoint(str(make_bloom()), "embed", device="cpu", settings=settings).max_length == 33


def test_a_text_without_a_token_cannot_be_packed() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack([np.array([5]), np.array([], dtype=np.int64)])
    with pytest.raises(ValueError, match="at least one token"):
        pack([])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 300), max_size=60), batch_tokens=st.integers(1, 2000))
def test_a_plan_keeps_every_text_once_and_its_budget(lengths: list[int], batch_tokens: int) -> None:
    batches = plan_batches(lengths, batch_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[i] for i in batch) <= batch_tokens for batch in batches)
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(lengths, reverse=True)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_runs_cover_a_pack(lengths: list[int]) -> None:
    batch = pack([np.full(length, place) for place, length in enumerate(lengths)])
    assert [run.length for run in batch.runs for _ in range(run.count)] == lengths
    assert np.diff(batch.cu_seqlens).tolist() == lengths
    assert batch.input_ids.tolist() == [place for place, length in enumerate(lengths) for _ in range(length)]
    assert (batch.max_seqlen, batch.cu_seqlens.dtype) == (max(lengths), torch.int32)
