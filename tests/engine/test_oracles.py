"""The engine against Hugging Face's own Bloom: the same numbers, whatever the batch; and red when a piece is broken."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import nn
from transformers import AutoModel, AutoTokenizer, BloomModel, pipeline

from haystack_integrations.common.bloomz import attention, batches, forward, linear, scorer
from haystack_integrations.common.bloomz.batches import last_states_in_batches
from haystack_integrations.common.bloomz.checkpoint import Checkpoint, LoadSettings, close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.forward import (
    all_hidden_states,
    last_hidden_states,
    reference_last_hidden_states,
)
from haystack_integrations.common.bloomz.packing import PackedBatch, pack
from haystack_integrations.common.bloomz.scorer import Scorer, probabilities
from haystack_integrations.common.bloomz.tokens import TokenizedPairs, tokenize_pairs

MakeBloom = Callable[..., Path]
Array = np.ndarray[Any, np.dtype[Any]]

QUESTIONS = ["Où se trouve la tour Eiffel ?", "Where is the Eiffel tower?", "Qui ?", "Who?"]
PASSAGES = [
    "La tour Eiffel se trouve à Paris, au bord de la Seine. " * 6,
    "The Eiffel tower stands in Paris, on the banks of the Seine.",
    "é",
    "Big Ben sonne à Londres.",
    "The Alhambra overlooks Granada. " * 3,
    "A",
]
TEXTS = QUESTIONS + PASSAGES
PAIRS = [(passage, question) for question in QUESTIONS for passage in PASSAGES]


@pytest.fixture(scope="module")
def retriever(tiny_bloom: Path) -> Iterator[Checkpoint]:
    checkpoint = open_checkpoint(str(tiny_bloom), "embed", device="cpu")
    yield checkpoint
    close_checkpoint(checkpoint)


@pytest.fixture(scope="module")
def reranker(tiny_ranker: Path) -> Iterator[Checkpoint]:
    checkpoint = open_checkpoint(str(tiny_ranker), "rank", device="cpu")
    yield checkpoint
    close_checkpoint(checkpoint)


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_at_a_time(folder: Path, texts: list[str]) -> Array:
    """Hugging Face, each text alone, without padding."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1] for text in texts]
    return torch.stack(rows).numpy()


def model_card(folder: Path, texts: list[str]) -> Array:
    """The code of the model card: pad the list on the left, take position -1."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**batch).last_hidden_state[:, -1, :].numpy()


def label_1_by_pipeline(folder: Path) -> Array:
    """The code of the reranker's model card, pair by pair."""
    classify = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    answers = [classify({"text": context, "text_pair": question}) for context, question in PAIRS]
    return np.array([next(row["score"] for row in rows if row["label"] == "LABEL_1") for rows in answers])


@pytest.mark.parametrize("heads", [1, 2, 3, 8])
@pytest.mark.parametrize("post_norm", [False, True])
def test_packed_equals_one_at_a_time_equals_model_card(make_bloom: MakeBloom, heads: int, post_norm: bool) -> None:
    folder = make_bloom(heads=heads, apply_residual_connection_post_layernorm=post_norm)
    checkpoint = open_checkpoint(str(folder), "embed", device="cpu")
    vectors = Encoder(checkpoint).encode(TEXTS)
    np.testing.assert_allclose(vectors, unit(one_at_a_time(folder, TEXTS)), atol=1e-5, rtol=0)
    np.testing.assert_allclose(vectors, unit(model_card(folder, TEXTS)), atol=1e-5, rtol=0)
    close_checkpoint(checkpoint)


def test_cosine_distances_equal_those_of_the_model_card(tiny_bloom: Path, retriever: Checkpoint) -> None:
    ours = Encoder(retriever)
    distances = 1 - ours.encode(QUESTIONS) @ ours.encode(PASSAGES).T
    reference = cdist(model_card(tiny_bloom, QUESTIONS), model_card(tiny_bloom, PASSAGES), "cosine")
    np.testing.assert_allclose(distances, reference, atol=1e-5, rtol=0)
    assert reference.std() > 0.1, "an oracle that cannot tell texts apart proves nothing"


def test_raw_vectors_are_the_hidden_states(tiny_bloom: Path, retriever: Checkpoint) -> None:
    raw = Encoder(retriever).encode(TEXTS, normalize=False)
    np.testing.assert_allclose(raw, one_at_a_time(tiny_bloom, TEXTS), atol=2e-5, rtol=0)
    assert raw.dtype == np.float32


def test_all_hidden_states_equal_hugging_face(retriever: Checkpoint) -> None:
    ids = [np.arange(4, 60), np.arange(90, 97)]
    packed = all_hidden_states(retriever.model, pack(ids))
    alone = [retriever.model(torch.from_numpy(row)[None]).last_hidden_state[0] for row in ids]
    torch.testing.assert_close(packed, torch.cat(alone), atol=2e-5, rtol=0)


@pytest.mark.parametrize("length", [1000, 2048])
def test_long_texts(retriever: Checkpoint, length: int) -> None:
    """Far from the start ALiBi adds about 500 to a score, in Hugging Face too: float32 keeps fewer decimals there."""
    ids = [np.random.default_rng(0).integers(4, 300, length), np.arange(4, 9)]
    with torch.no_grad():
        fast = last_hidden_states(retriever.model, pack(ids)).numpy()
        plain = reference_last_hidden_states(retriever.model, ids).numpy()
    np.testing.assert_allclose(unit(fast), unit(plain), atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=8),
    batch_tokens=st.integers(1, 1200),
    seed=st.integers(0, 2**16),
)
def test_any_batch_equals_each_text_alone(
    retriever: Checkpoint, lengths: list[int], batch_tokens: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 300, length) for length in lengths]
    vectors = np.full((len(ids), 24), np.nan, dtype=np.float32)
    for places, states in last_states_in_batches(retriever, ids, batch_tokens):
        vectors[places] = states
    with torch.no_grad():
        plain = reference_last_hidden_states(retriever.model, ids).numpy()
    np.testing.assert_allclose(unit(vectors), unit(plain), atol=1e-5, rtol=0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(neighbours=st.lists(st.text(max_size=80), max_size=6), place=st.integers(0, 6))
def test_a_text_alone_equals_the_same_text_among_any_neighbours(
    retriever: Checkpoint, neighbours: list[str], place: int
) -> None:
    ours = Encoder(retriever, batch_tokens=256)
    text = TEXTS[0]
    at = min(place, len(neighbours))
    among = ours.encode([*neighbours[:at], text, *neighbours[at:]])[at]
    np.testing.assert_allclose(among, ours.encode([text])[0], atol=1e-5, rtol=0)


def test_probabilities_equal_the_pipeline(tiny_ranker: Path, reranker: Checkpoint) -> None:
    ours = probabilities(Scorer(reranker).score_pairs(PAIRS))
    reference = label_1_by_pipeline(tiny_ranker)
    np.testing.assert_allclose(ours, reference, atol=1e-5, rtol=0)
    assert reference.std() > 0.05


def test_log_odds_are_the_difference_of_the_logits(reranker: Checkpoint) -> None:
    ids = tokenize_pairs(reranker.tokenizer, PAIRS, max_length=2048, empty_token=2).token_ids
    logits = torch.cat([reranker.model(torch.from_numpy(row)[None]).logits for row in ids]).numpy()
    np.testing.assert_allclose(Scorer(reranker).score_pairs(PAIRS), logits[:, 1] - logits[:, 0], atol=1e-4, rtol=0)


def test_trailing_padding_in_a_pair_is_read_as_hugging_face_does(tiny_ranker: Path, reranker: Checkpoint) -> None:
    pairs = [("La Seine.", "Où ? <pad><pad>"), ("The Seine.", "<pad>"), ("<pad>", "<pad><pad>"), ("é<pad>é", "ou")]
    classify = pipeline("text-classification", model=str(tiny_ranker), top_k=None, device="cpu")
    answers = [classify({"text": context, "text_pair": question}) for context, question in pairs]
    expected = [next(row["score"] for row in rows if row["label"] == "LABEL_1") for rows in answers]
    np.testing.assert_allclose(probabilities(Scorer(reranker).score_pairs(pairs)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("post_norm", [False, True])
def test_gradients_equal_hugging_face(make_bloom: MakeBloom, post_norm: bool) -> None:
    model = BloomModel.from_pretrained(make_bloom(apply_residual_connection_post_layernorm=post_norm))
    ids = [np.random.default_rng(n).integers(4, 300, n) for n in (1, 7, 7, 40)]
    weight = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))

    def gradients(states: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (states * weight).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    fast = gradients(last_hidden_states(model, pack(ids)))
    plain = gradients(reference_last_hidden_states(model, ids))
    assert fast.keys() == plain.keys() == dict(model.named_parameters()).keys()
    for name, expected in plain.items():
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(fast[name] / scale, expected / scale, atol=1e-4, rtol=0, msg=name)


def test_bfloat16_on_cpu_stays_near_float32(make_bloom: MakeBloom) -> None:
    folder = str(make_bloom(initializer_range=0.1))
    exact = open_checkpoint(folder, "embed", device="cpu")
    short = open_checkpoint(
        folder, "embed", device="cpu", settings=LoadSettings(model_kwargs={"dtype": torch.bfloat16})
    )
    assert next(short.model.parameters()).dtype == torch.bfloat16
    texts = [*TEXTS, PASSAGES[0] * 5]
    cosine = (Encoder(exact).encode(texts) * Encoder(short).encode(texts)).sum(axis=1)
    assert (1 - cosine).max() < 1e-2
    close_checkpoint(exact)
    close_checkpoint(short)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_implementations_of_attention_agree(dtype: torch.dtype) -> None:
    batch = pack([np.zeros(n, dtype=np.int64) for n in (5, 5, 1, 130)])
    fused = torch.randn(141, 3, 3, 7, generator=torch.Generator().manual_seed(0), dtype=dtype)
    slopes = attention.alibi_slopes(3, torch.device("cpu"))
    feature = attention.packed_attention(fused, batch, slopes, "alibi_feature")
    bias = attention.packed_attention(fused, batch, slopes, "alibi_bias")
    torch.testing.assert_close(feature, bias, atol=1e-5, rtol=0)


def test_linears_are_packed_but_the_one_that_the_shortcut_reads(retriever: Checkpoint) -> None:
    kinds = [type(layer.self_attention.query_key_value) for layer in retriever.model.h]
    assert kinds == [linear.PackedLinear, nn.Linear]
    assert {type(layer.mlp.dense_4h_to_h) for layer in retriever.model.h} == {linear.PackedLinear}


@pytest.mark.parametrize("precision", [None, "int8"])
def test_an_mlp_that_adds_nothing_is_left_out(
    make_bloom: MakeBloom, tmp_path: Path, precision: linear.Precision | None
) -> None:
    folder = make_bloom(n_layer=3)
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for place, value in ((0, 0.0), (1, 1e-30)):  # the second is not zero: it is computed
            model.h[place].mlp.dense_4h_to_h.weight.fill_(value)
            model.h[place].mlp.dense_4h_to_h.bias.zero_()
    silent = tmp_path / "silent"
    shutil.copytree(folder, silent)
    model.save_pretrained(silent)
    checkpoint = open_checkpoint(str(silent), "embed", device="cpu", settings=LoadSettings(precision=precision))
    assert [type(layer.mlp) is linear.SilentMLP for layer in checkpoint.model.h] == [True, False, False]
    found = Encoder(checkpoint).encode(TEXTS, normalize=False)
    wanted = one_at_a_time(silent, TEXTS)
    assert np.abs(found - wanted).max() < (0.2 if precision else 1e-5)
    assert np.abs(one_at_a_time(folder, TEXTS) - wanted).max() > 1.0  # negative control: with the MLPs
    close_checkpoint(checkpoint)


@pytest.mark.parametrize("rows", [0, 1, 15, 300])
def test_a_packed_linear_equals_the_plain_one(rows: int) -> None:
    torch.manual_seed(0)
    plain, states, residual = nn.Linear(24, 72), torch.randn(rows, 24), torch.randn(rows, 72)
    packed = linear.prepare_linear(plain, None)
    assert type(packed) is linear.PackedLinear
    with torch.inference_mode():
        for one, two in (
            (packed(states), plain(states)),
            (linear.linear_gelu(packed, states), linear.linear_gelu(plain, states)),
            (linear.linear_add(packed, states, residual), linear.linear_add(plain, states, residual)),
        ):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
        broken = linear.linear_gelu(linear.prepare_linear(nn.Linear(24, 72), None), states)
    assert rows == 0 or (broken - two).abs().max() > 0.1, "an oracle that cannot tell two layers apart proves nothing"


def fused_heads(batch: PackedBatch, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Random queries, keys and values of 16 heads of 64, and their slopes."""
    torch.manual_seed(0)
    fused = torch.randn(len(batch.input_ids), 16, 3, 64, device=device)
    return fused, attention.alibi_slopes(16, torch.device(device))


def test_sixteen_bits_keep_the_position() -> None:
    """As one bfloat16 number a position of 1,999 is 2,000; as three it is exact, in a kernel that adds in float32."""
    batch = pack([np.zeros(n, dtype=np.int64) for n in (3, 2000)])
    fused, slopes = fused_heads(batch)
    padded = attention._carry_positions(fused.bfloat16(), batch, slopes).float()
    carried = (padded[:, :, 0, 64:] * padded[:, :, 1, 64:]).sum(-1) / 8
    torch.testing.assert_close(carried, batch.positions[:, None] * slopes, atol=1e-3, rtol=0)
    exact = attention.packed_attention(fused, batch, slopes, "alibi_bias")
    short = attention.packed_attention(fused.bfloat16(), batch, slopes, "alibi_feature").float()
    assert (short - exact).abs().max() < 0.05


def test_one_call_for_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's contract written plainly in its place: it runs on a GPU only."""

    def plain(*given: Any, scale: float, window_size: tuple[int, int]) -> torch.Tensor:  # noqa: ANN401
        query, key, value, ends, same, longest, _ = given
        assert (ends is same, longest, window_size) == (True, 130, (-1, 0))
        texts = []
        for start, stop in itertools.pairwise(ends.tolist()):
            one, two, three = (rows[start:stop].transpose(0, 1) for rows in (query, key, value))
            texts.append(F.scaled_dot_product_attention(one, two, three, is_causal=True, scale=scale).transpose(0, 1))
        return torch.cat(texts)

    monkeypatch.setattr(attention, "flash_attention", lambda: plain)
    batch = pack([np.zeros(n, dtype=np.int64) for n in (5, 5, 1, 130)])
    fused, slopes = fused_heads(batch)
    expected = attention.packed_attention(fused, batch, slopes, "alibi_bias")
    torch.testing.assert_close(
        attention.packed_attention(fused, batch, slopes, "alibi_varlen"), expected, atol=1e-5, rtol=0
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_attends_in_one_call() -> None:
    batch = pack([np.zeros(n, dtype=np.int64) for n in (5, 5, 1, 130, 2000)]).to(torch.device("cuda"))
    fused, slopes = fused_heads(batch, "cuda")
    assert attention.choose_implementation(torch.bfloat16, fused.device) == "alibi_varlen"
    exact = attention.packed_attention(fused, batch, slopes, "alibi_bias")
    assert (attention.packed_attention(fused.bfloat16(), batch, slopes).float() - exact).abs().max() < 0.05


# --- negative controls: each breaks one piece on purpose, and the oracle above must notice ---


def without_alibi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "alibi_slopes", lambda heads, device: torch.zeros(heads, device=device))


def without_causal_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(*args: Any, is_causal: bool, **options: Any) -> torch.Tensor:  # noqa: ANN401
        return F.scaled_dot_product_attention(*args, **options)

    monkeypatch.setattr(attention, "F", SimpleNamespace(pad=F.pad, scaled_dot_product_attention=attend))


def with_tokens_reversed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "pack", lambda ids: pack([row[::-1].copy() for row in ids]))


def pooled_at_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(model: BloomModel, batch: PackedBatch) -> torch.Tensor:
        return all_hidden_states(model, batch)[batch.cu_seqlens[:-1].long()]

    monkeypatch.setattr(batches, "last_hidden_states", first)


def pooled_by_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    def mean(model: BloomModel, batch: PackedBatch) -> torch.Tensor:
        rows = all_hidden_states(model, batch).split(np.diff(batch.cu_seqlens).tolist())
        return torch.stack([row.mean(0) for row in rows])

    monkeypatch.setattr(batches, "last_hidden_states", mean)


BREAKS = [without_alibi, without_causal_mask, with_tokens_reversed, pooled_at_the_first_token, pooled_by_mean]


@pytest.mark.parametrize("break_it", BREAKS)
def test_the_vector_oracle_goes_red(
    monkeypatch: pytest.MonkeyPatch,
    tiny_bloom: Path,
    retriever: Checkpoint,
    break_it: Callable[[pytest.MonkeyPatch], None],
) -> None:
    reference = unit(one_at_a_time(tiny_bloom, TEXTS))
    assert np.abs(Encoder(retriever).encode(TEXTS) - reference).max() < 1e-5
    break_it(monkeypatch)
    assert np.abs(Encoder(retriever).encode(TEXTS) - reference).max() > 0.05


def with_the_question_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(tokenizer: Any, pairs: Any, **options: Any) -> TokenizedPairs:  # noqa: ANN401
        return tokenize_pairs(tokenizer, [(question, context) for context, question in pairs], **options)

    monkeypatch.setattr(scorer, "tokenize_pairs", swapped)


def with_the_other_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "positive_label", lambda config: 0)


@pytest.mark.parametrize("break_it", [*BREAKS, with_the_question_first, with_the_other_label])
def test_the_probability_oracle_goes_red(
    monkeypatch: pytest.MonkeyPatch,
    tiny_ranker: Path,
    reranker: Checkpoint,
    break_it: Callable[[pytest.MonkeyPatch], None],
) -> None:
    reference = label_1_by_pipeline(tiny_ranker)
    break_it(monkeypatch)
    assert np.abs(probabilities(Scorer(reranker).score_pairs(PAIRS)) - reference).max() > 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_bfloat16_stays_near_cpu_float32(make_bloom: MakeBloom) -> None:
    folder = str(make_bloom(initializer_range=0.1))
    exact, fast = (open_checkpoint(folder, "embed", device=device) for device in ("cpu", "cuda"))
    assert (fast.placement.device.type, fast.placement.dtype) == ("cuda", torch.bfloat16)
    assert open_checkpoint(folder, "embed", device="cuda:0") is open_checkpoint(folder, "embed") is fast
    texts = [*TEXTS, PASSAGES[0] * 5]
    cosine = (Encoder(exact).encode(texts) * Encoder(fast).encode(texts)).sum(axis=1)
    assert (1 - cosine).max() < 1e-2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_scores_stay_near_those_of_the_cpu(make_bloom: MakeBloom) -> None:
    folder = str(make_bloom(ranker=True, initializer_range=0.1))
    exact, fast = (open_checkpoint(folder, "rank", device=device) for device in ("cpu", "cuda"))
    full = open_checkpoint(folder, "rank", device="cuda", settings=LoadSettings(model_kwargs={"dtype": "float32"}))
    expected = probabilities(Scorer(exact).score_pairs(PAIRS))
    np.testing.assert_allclose(probabilities(Scorer(fast).score_pairs(PAIRS)), expected, atol=2e-2, rtol=0)
    np.testing.assert_allclose(probabilities(Scorer(full).score_pairs(PAIRS)), expected, atol=1e-4, rtol=0)
