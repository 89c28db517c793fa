"""Linears of 8 bits against the same arithmetic written plainly, and against the float model they come from."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bloomz_haystack.benchmark.cross_encoders import open_cross_encoder
from bloomz_haystack.benchmark.systems import choose_ranker, choose_systems, read_systems
from bloomz_haystack.benchmark.text_models import open_text_model
from haystack_integrations.common.bloomz import int8
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadSettings,
    Task,
    close_checkpoint,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.int8 import Int8Embedding, Int8Linear
from haystack_integrations.common.bloomz.linear import linear_add, linear_gelu
from haystack_integrations.common.bloomz.scorer import Scorer
from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker

MakeBloom = Callable[..., Path]

TEXTS = ["Où se trouve la tour Eiffel ?", "Where is the Eiffel tower?", "é", "", "La Seine coule à Paris. " * 20]


def layer(inputs: int = 40, outputs: int = 56) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs)


def plain_product(linear: nn.Linear, rows: torch.Tensor, levels: int) -> torch.Tensor:
    """Round weights and inputs to integers, multiply exactly, scale back."""
    weight, rows = linear.weight.double(), rows.double()
    weight_steps = weight.abs().amax(1, keepdim=True) / 127
    lowest = rows.amin(1, keepdim=True)
    row_steps = (rows.amax(1, keepdim=True) - lowest) / levels
    rounded = lowest + ((rows - lowest) / row_steps).round() * row_steps
    return (rounded @ ((weight / weight_steps).round() * weight_steps).T + linear.bias.double()).float()


def opened(folder: Path, task: Task = "embed", precision: Any = "int8", **settings: Any) -> Checkpoint:  # noqa: ANN401
    return open_checkpoint(str(folder), task, device="cpu", settings=LoadSettings(precision=precision, **settings))


@pytest.mark.parametrize("rows", [1, 15, 300])
def test_the_product_is_that_of_rounded_numbers(rows: int) -> None:
    plain = layer()
    states, residual = torch.randn(rows, 40) * torch.logspace(-3, 3, rows)[:, None], torch.randn(rows, 56)
    quantised = Int8Linear(plain)
    expected = plain_product(plain, states, int8.input_levels())
    # A number halfway between two integers may fall on either side: one step, of some 40 that are added.
    steps = (states.amax(1, keepdim=True) - states.amin(1, keepdim=True)) / 255
    allowed = (1e-5 + steps * plain.weight.abs().max()).expand_as(expected)
    assert ((quantised(states) - expected).abs() <= allowed).all()
    assert (quantised(states) - expected).abs().median() < 1e-5
    torch.testing.assert_close(linear_gelu(quantised, states), F.gelu(quantised(states), approximate="tanh"))
    torch.testing.assert_close(linear_add(quantised, states, residual), quantised(states) + residual)
    plain.weight.data[0] *= 1.5
    assert not ((Int8Linear(plain)(states) - expected).abs() <= allowed).all(), "a wrong weight must show"


def test_fine_inputs_leave_the_error_of_the_weights_only() -> None:
    plain, states = layer(), torch.randn(30, 40)
    states[:, 3] = 400.0  # what one large number does to its row
    weight = plain.weight.data.double()
    steps = weight.abs().amax(1, keepdim=True) / 127
    expected = (states.double() @ ((weight / steps).round() * steps).T + plain.bias.double()).float()
    coarse, fine = ((Int8Linear(plain, fine=fine)(states) - expected).abs().max() for fine in (False, True))
    assert fine < 5e-3 < 0.1 < coarse


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    quantised, states = Int8Linear(layer()), torch.randn(9, 40)
    states[3] *= 1e4
    alone = torch.cat([quantised(row[None]) for row in states])
    assert torch.equal(quantised(states), alone)
    assert torch.equal(quantised(states.unflatten(0, (3, 3))).flatten(0, 1), alone), "as Hugging Face calls it"


def test_rows_of_zeros_and_rows_that_are_not_finite() -> None:
    plain = layer()
    plain.weight.data[5] = 0.0
    states = torch.zeros(3, 40)
    states[1, 7], states[2, 7] = torch.nan, torch.inf
    product = Int8Linear(plain)(states)
    torch.testing.assert_close(product[0], plain.bias)
    assert not product[1].isfinite().any(), "a NaN must not become a number"
    assert not product[2, plain.weight.abs().amax(1) > 0].isfinite().any()


def test_a_processor_without_vnni_gives_the_same_with_half_the_levels() -> None:
    """There oneDNN adds pairs of products in 16 bits, and cuts what does not fit: at 255 levels the sum is wrong."""
    code = (
        "import torch; from haystack_integrations.common.bloomz.int8 import Int8Linear, input_levels;"
        "plain = torch.nn.Linear(64, 16); plain.weight.data[:] = 1.0; rows = torch.ones(2, 64); rows[:, 0] = 0.0;"
        "print(input_levels(), float((Int8Linear(plain)(rows) - plain(rows)).abs().max()) < 1e-3)"
    )
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split()[1] == "True"
    assert done.stdout.split()[0] in ("127", "255")  # 255 where the processor has VNNI for AVX2, or is no x86


def test_the_table_is_rounded_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(50, 40)
    with torch.no_grad():
        table.weight.mul_(torch.logspace(-3, 3, 50)[:, None])[9] = 0.0
    monkeypatch.setattr(int8, "TABLE_ROWS", 7)
    ids = torch.tensor([[0, 9, 49], [8, 6, 7]])
    found, exact = Int8Embedding(table)(ids), table(ids).detach()
    steps = exact.abs().amax(-1, keepdim=True) / 127
    assert ((found - exact).abs() <= steps * 0.501).all()
    assert (found[0, 1] == 0).all()
    assert not ((Int8Embedding(table)(ids + 1 - 2 * (ids == 49)) - exact).abs() <= steps).all(), "another row must show"
    assert Int8Embedding(table).weight.dtype == torch.int8


@pytest.mark.parametrize("post_norm", [False, True])
def test_vectors_stay_near_those_of_float32(make_bloom: MakeBloom, post_norm: bool) -> None:
    folder = make_bloom(initializer_range=0.1, apply_residual_connection_post_layernorm=post_norm)
    exact, short = opened(folder, precision=None), opened(folder)
    assert exact is not short
    assert "int8" in short.placement.reason
    cosine = (Encoder(exact).encode(TEXTS) * Encoder(short).encode(TEXTS)).sum(axis=1)
    assert 1e-7 < (1 - cosine).max() < 1e-2, "near, but no longer the same"
    alone = np.concatenate([Encoder(short).encode([text]) for text in TEXTS])
    np.testing.assert_allclose(Encoder(short).encode(TEXTS), alone, atol=1e-5, rtol=0)
    close_checkpoint(exact)
    close_checkpoint(short)


def test_scores_stay_near_those_of_float32(make_bloom: MakeBloom) -> None:
    folder = make_bloom(ranker=True, initializer_range=0.1)
    exact, short = (Scorer(opened(folder, "rank", precision)) for precision in (None, "int8"))
    expected = exact.score(TEXTS[0], TEXTS)
    assert np.abs(short.score(TEXTS[0], TEXTS) - expected).max() < 0.1 * np.ptp(expected)


def test_every_weight_is_small_but_the_one_that_the_shortcut_reads(tiny_bloom: Path) -> None:
    checkpoint = opened(tiny_bloom)
    first, last = checkpoint.model.h
    assert isinstance(checkpoint.model.word_embeddings, Int8Embedding)
    assert {type(block.mlp.dense_4h_to_h) for block in (first, last)} == {Int8Linear}
    assert (type(first.self_attention.query_key_value), type(last.self_attention.query_key_value)) == (
        Int8Linear,
        nn.Linear,
    )
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}
    ids = torch.arange(4, 40)[None]
    assert checkpoint.model(input_ids=ids).last_hidden_state.isfinite().all(), "Hugging Face's forward works on it"


def test_what_cannot_be_is_said_in_one_line(tiny_bloom: Path) -> None:
    components: list[Any] = [BloomzTextEmbedder, BloomzDocumentEmbedder, BloomzRanker]
    for component in components:
        with pytest.raises(ValueError, match="precision must be None or 'int8', but got 'int4'"):
            component(precision="int4")
    with pytest.raises(ValueError, match="precision must be None or 'int8', but got 'int4'"):
        opened(tiny_bloom, precision="int4")
    with pytest.raises(CheckpointError, match=r"'int8' and dtype torch.float32 were both asked for"):
        opened(tiny_bloom, model_kwargs={"dtype": "float32"})
    with pytest.raises(CheckpointError, match="runs on a CPU with oneDNN only, but the device is mps"):
        open_checkpoint(str(tiny_bloom), "embed", device="mps", settings=LoadSettings(precision="int8"))


def test_rows_of_the_benchmark_name_it(tiny_bloom: Path, tiny_ranker: Path) -> None:
    systems, rankers = read_systems()
    assert {systems["tiny-fr-en-retriever-int8"].precision, rankers["tiny-fr-en-ranker-int8"].precision} == {"int8"}
    exact, short = (
        open_text_model(choose_systems(str(tiny_bloom), systems, pooling="last", precision=precision).rows[0], "cpu")
        for precision in (None, "int8")
    )
    assert exact.fingerprint != short.fingerprint, "kept vectors of one must not serve the other"
    assert 0 < np.abs(exact.encode(TEXTS) - short.encode(TEXTS)).max() < 1.0
    first, second = (
        open_cross_encoder(choose_ranker(str(tiny_ranker), rankers, precision=precision), "cpu")
        for precision in (None, "int8")
    )
    assert first.fingerprint != second.fingerprint
    assert (first.score(TEXTS[0], TEXTS) != second.score(TEXTS[0], TEXTS)).any()
    with pytest.raises(ValueError, match="precision must be one of int8, but got 'int4'"):
        choose_systems(str(tiny_bloom), systems, precision="int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is for Bloom with last-token pooling"):
        open_text_model(choose_systems(str(tiny_bloom), systems, pooling="mean", precision="int8").rows[0], "cpu")
    for model in (exact, short, first, second):
        model.close()


def test_the_components_pass_it_on(tiny_bloom: Path) -> None:
    embedder = BloomzTextEmbedder.from_dict(BloomzTextEmbedder(str(tiny_bloom), precision="int8").to_dict())
    embedder.warm_up()
    assert isinstance(embedder._warm_engine().checkpoint.model.h[0].mlp.dense_4h_to_h, Int8Linear)
    embedder.close()
