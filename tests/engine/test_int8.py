"""Linears of 8 bits against the same arithmetic written plainly, and against the float model they come from."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, AutoTokenizer

from bloomz_haystack.benchmark.systems.cross_encoders import open_cross_encoder
from bloomz_haystack.benchmark.systems.encoders import open_text_model
from bloomz_haystack.benchmark.systems.systems import choose_ranker, choose_systems, read_systems
from haystack_integrations.common.bloomz import int8, int8_choice
from haystack_integrations.common.bloomz.batches import Vectors
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadSettings,
    Task,
    choose_placement,
    close_checkpoint,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.int8 import Int8Embedding, Int8Linear
from haystack_integrations.common.bloomz.int8_kernels import (
    KERNELS,
    Int8Kernel,
    KernelChoice,
    input_levels,
    usable_levels,
)
from haystack_integrations.common.bloomz.int8_rows import fused_whole_numbers, plain_whole_numbers, whole_numbers
from haystack_integrations.common.bloomz.linear import linear_add, linear_gelu, prepare_linear
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
    expected = plain_product(plain, states, input_levels())
    # A number halfway between two integers may fall on either side: one step, of some 40 that are added.
    steps = (states.amax(1, keepdim=True) - states.amin(1, keepdim=True)) / input_levels()
    allowed = (1e-5 + steps * plain.weight.abs().max()).expand_as(expected)
    assert ((quantised(states) - expected).abs() <= allowed).all()
    assert (quantised(states) - expected).abs().median() < 1e-5
    gelu, bloom = linear_gelu(quantised, states), F.gelu(quantised(states), approximate="tanh")
    torch.testing.assert_close(gelu, bloom, atol=5e-4, rtol=0)
    torch.testing.assert_close(linear_add(quantised, states, residual), quantised(states) + residual)
    plain.weight.data[0] *= 1.5
    assert not ((Int8Linear(plain)(states) - expected).abs() <= allowed).all(), "a wrong weight must show"


@pytest.mark.parametrize("shape", [(1, 40), (9, 1024), (3, 3, 40)])
def test_one_pass_over_the_rows_rounds_as_the_plain_way(shape: tuple[int, ...]) -> None:
    seed = torch.Generator().manual_seed(0)
    rows = torch.randn(shape, generator=seed) * torch.logspace(-3, 3, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    rows[0] = 7.0 if shape[0] > 1 else rows[0]  # no range at all
    fused, plain = fused_whole_numbers(rows), plain_whole_numbers(rows, 255)
    assert fused.whole.dtype == torch.uint8
    torch.testing.assert_close(fused.lowest, plain.lowest, atol=0, rtol=0)
    ranged = plain.steps > 1e-20
    torch.testing.assert_close(fused.steps[ranged], plain.steps[ranged], atol=0, rtol=1e-6)
    apart = (fused.whole.float() - plain.whole).abs()
    halfway = ((((rows - plain.lowest) / plain.steps) % 1) - 0.5).abs() < 1e-3
    assert apart.max() <= 1
    assert (apart[~halfway] == 0).all()
    assert (halfway & (apart == 1)).float().mean() < 2e-3
    for way in (fused, plain, whole_numbers(rows)):
        assert ((way.rounded() - rows).abs() <= 0.501 * way.steps + 1e-5 * rows.abs()).all()
        wrong = way._replace(lowest=way.lowest + 2 * way.steps + 1e-3)
        assert not ((wrong.rounded() - rows).abs() <= 0.501 * way.steps + 1e-5 * rows.abs()).all(), "must show"


def test_fine_inputs_leave_the_error_of_the_weights_only() -> None:
    plain, states = layer(), torch.randn(30, 40)
    states[:, 3] = 400.0  # what one large number does to its row
    weight = plain.weight.data.double()
    steps = weight.abs().amax(1, keepdim=True) / 127
    expected = (states.double() @ ((weight / steps).round() * steps).T + plain.bias.double()).float()
    coarse, fine = ((Int8Linear(plain, fine=fine)(states) - expected).abs().max() for fine in (False, True))
    step = 403 / input_levels()  # of the coarse inputs; the fine ones have as many steps again within it
    bound = 0.5 * step / input_levels() * plain.weight.abs().sum(1).max()
    assert fine < bound < 0.1 < coarse


@pytest.mark.parametrize("kernel", usable_levels())
@pytest.mark.parametrize("fine", [False, True])
def test_a_row_does_not_depend_on_its_neighbours(kernel: str, fine: bool) -> None:
    """Nor on how many there are, nor on their size: fbgemm's own dynamic linear takes one scale for all rows."""
    quantised, states = Int8Linear(layer(), fine=fine, kernel=kernel), torch.randn(9, 40)
    states[3] *= 1e4
    states[5] = 7.0  # no range at all
    alone = torch.cat([quantised(row[None]) for row in states])
    assert torch.equal(quantised(states), alone)
    assert torch.equal(quantised(states.unflatten(0, (3, 3))).flatten(0, 1), alone), "as Hugging Face calls it"


@pytest.mark.parametrize("fine", [False, True])
def test_every_kernel_gives_the_same_numbers(fine: bool) -> None:
    """So a choice by the clock, which may fall differently tomorrow, moves no vector."""
    plain, states = layer(200, 300), torch.randn(50, 200) * torch.logspace(-2, 2, 50)[:, None]
    layers = {name: Int8Linear(plain, fine=fine, kernel=name) for name in usable_levels()}
    expected = layers["widened"](states)
    for name, quantised in layers.items():
        assert torch.equal(quantised(states), expected), name
        assert torch.equal(quantised.integers(), layers["widened"].integers()), "packed weights can be read back"
        assert torch.equal(layers["widened"].by_kernel(name)(states), expected), name
    wrong = Int8Linear(layer(200, 300), kernel="widened")
    wrong._scales.mul_(1.01)
    assert not torch.equal(wrong(states), expected), "a wrong scale must show"


def test_the_kernel_that_works_least_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real kernels: all but one compute before they multiply, and that one sleeps longer, as beside busy processes."""

    def work() -> None:
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass

    def wait() -> None:
        time.sleep(0.03)

    def slowed(make: Callable[..., Int8Kernel], before: Callable[[], None]) -> Callable[..., Int8Kernel]:
        def slow(*weights: torch.Tensor) -> Int8Kernel:
            kernel = make(*weights)

            def multiply(rows: torch.Tensor) -> torch.Tensor:
                before()
                return kernel(rows)

            multiply.integers = kernel.integers  # type: ignore[attr-defined]
            return multiply  # type: ignore[return-value]

        return slow

    def choice() -> KernelChoice:
        return prepare_linear(layer(), "int8").choice  # type: ignore[return-value]

    names = list(usable_levels())
    for fastest in names:
        monkeypatch.setattr(int8_choice, "_choices", {})
        kernels = {name: slowed(KERNELS[name], wait if name == fastest else work) for name in names}
        monkeypatch.setattr(int8, "KERNELS", kernels)
        chosen = choice()
        assert chosen.kernel == fastest
        assert set(chosen.milliseconds) == {"float32", *names}
        assert choice() is chosen, "timed once a shape"
        for forced in names:
            monkeypatch.setenv("BLOOMZ_INT8_KERNEL", forced)
            assert choice() == (forced, {})
        monkeypatch.delenv("BLOOMZ_INT8_KERNEL")
    monkeypatch.setenv("BLOOMZ_INT8_KERNEL", "mkl")
    with pytest.raises(ValueError, match=r"BLOOMZ_INT8_KERNEL must be one of .*widened on .* but got 'mkl'"):
        choice()
    with pytest.raises(ValueError, match=r"^BLOOMZ_INT8_KERNEL must be one of .* but got 'mkl'$"):
        choose_placement("cpu", precision="int8")


def test_int8_that_is_slower_than_float32_says_so_once_with_both_figures(
    tiny_bloom: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shapes = {"24 -> 72", "24 -> 24", "24 -> 96", "96 -> 24"}
    for float32, warned in ((0.5, True), (9.0, False)):
        taken = {"float32": float32, "onednn": 1.25, "fbgemm": 1.25, "widened": 1.25}
        monkeypatch.setattr(int8_choice, "_choices", {})
        monkeypatch.setattr(int8_choice, "_milliseconds", lambda *_, taken=taken: taken)
        caplog.clear()
        embedder = BloomzTextEmbedder(str(tiny_bloom), precision="int8")
        with caplog.at_level(logging.INFO, "haystack_integrations"):
            embedder.warm_up()
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        told = [text for text in caplog.messages if "int8 linears 24 -> 72 by" in text]
        assert len(told) == 1, "--verbose shows the choice"
        kernels = embedder.stats()["kernels"]
        assert set(kernels) == shapes
        assert all(choice["milliseconds"] == taken for choice in kernels.values())
        assert isinstance(embedder._warm_engine().checkpoint.model.h[0].mlp.dense_4h_to_h, Int8Linear), "memory is kept"
        embedder.close()
        assert embedder.stats() == {}
        if warned:
            assert len(warnings) == 1
            assert "int8 saves memory but is slower than float32: a layer takes 5 ms instead of 2;" in warnings[0]
        else:
            assert warnings == []


@pytest.mark.slow
def test_torch_built_without_the_operators(tiny_bloom: Path, tiny_ranker: Path) -> None:
    """As on macOS on ARM: nothing is looked up on import, plain layers give the same vectors, int8 widens weights."""
    code = """
import sys, torch
class Without:
    def __init__(self, names, gone): self.names, self.gone = names, gone
    def __getattr__(self, name):
        if name in self.gone: raise AttributeError(name)
        return getattr(self.names, name)
torch.ops.mkldnn = Without(torch.ops.mkldnn, {"_linear_pointwise", "_reorder_linear_weight"})
torch.ops.onednn = Without(torch.ops.onednn, {"qlinear_pointwise", "qlinear_prepack"})
torch.ops.quantized = Without(torch.ops.quantized, {"linear_prepack", "linear_with_input_q_dq_qweight_dq_output_fp32"})
import numpy
from haystack import Document
from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder
from haystack_integrations.components.rankers.bloomz import BloomzRanker
found = []
for precision in (None, "int8"):
    embedder = BloomzTextEmbedder(sys.argv[1], precision=precision)
    ranker = BloomzRanker(sys.argv[2], precision=precision)
    found += embedder.run("Où est la tour Eiffel ?")["embedding"]
    found += [ranker.run(query="Where?", documents=[Document(content="La Seine")])["documents"][0].score]
    found += [layer is torch.nn.Linear for layer in {type(embedder._engine.checkpoint.model.h[0].mlp.dense_4h_to_h)}]
    assert {choice["kernel"] for choice in embedder.stats().get("kernels", {}).values()} <= {"widened"}
numpy.save(sys.argv[3], numpy.array(found, dtype=float))
"""
    kept = tiny_bloom / "without.npy"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tiny_bloom, tiny_ranker, kept], check=True)
    without = np.load(kept).reshape(2, -1)
    model = AutoModel.from_pretrained(tiny_bloom)
    ids = AutoTokenizer.from_pretrained(tiny_bloom)("Où est la tour Eiffel ?", return_tensors="pt")["input_ids"]
    reference = F.normalize(model(input_ids=ids).last_hidden_state[0, -1], dim=0).detach().numpy()
    np.testing.assert_allclose(without[0, :-2], reference, atol=1e-5)
    assert without[0, -1] == 1, "a plain layer"
    assert without[1, -1] == 0
    for precision, numbers in zip((None, "int8"), without, strict=True):
        embedder = BloomzTextEmbedder(str(tiny_bloom), precision=precision)  # type: ignore[arg-type]
        with_them = np.array(embedder.run("Où est la tour Eiffel ?")["embedding"])
        # Without kernels that have fewer levels, int8 has 255 of them.
        far = 1e-5 if precision is None or input_levels() == 255 else 2e-2
        np.testing.assert_allclose(numbers[:-2], with_them, atol=far)


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
        "import torch; from haystack_integrations.common.bloomz import int8, int8_kernels;"
        "plain = torch.nn.Linear(64, 16); plain.weight.data[:] = 1.0; rows = torch.ones(2, 64); rows[:, 0] = 0.0;"
        "found = [int8.Int8Linear(plain, kernel=name)(rows) for name in int8_kernels.usable_levels()];"
        "print(int8_kernels.input_levels(), all((one - plain(rows)).abs().max() < 1e-3 for one in found))"
    )
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split()[1] == "True"
    assert done.stdout.split()[0] in ("127", "255")  # 255 where the processor has VNNI for AVX2, or is no x86


def test_the_table_is_rounded_row_by_row_but_for_those_that_one_number_dominates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(50, 40)
    with torch.no_grad():
        table.weight.mul_(torch.logspace(-3, 3, 50)[:, None])[9] = 0.0
        table.weight[[6, 30], [1, 39]] = -100 * table.weight[[6, 30]].abs().amax(1)
    monkeypatch.setattr(int8, "TABLE_ROWS", 7)
    monkeypatch.setattr(int8, "EXACT_ROWS", 2)
    ids = torch.tensor([[0, 9, 49, 30], [8, 6, 7, 29]])
    short = Int8Embedding(table)
    found, exact = short(ids), table(ids).detach()
    steps = exact.abs().amax(-1, keepdim=True) / 127
    assert ((found - exact).abs() <= steps * 0.501).all()
    assert (found[0, 1] == 0).all()
    assert torch.equal(found[[0, 1], [3, 1]], exact[[0, 1], [3, 1]]), "the two with one large number"
    assert (short(torch.arange(50)) == table.weight).all(1).sum() == 3, "they, and the row of zeros"
    assert not ((short(ids + 1 - 2 * (ids == 49)) - exact).abs() <= steps).all(), "another row must show"
    assert short.weight.dtype == torch.int8
    monkeypatch.setattr(int8, "EXACT_ROWS", 0)
    small = exact[1, 1].abs() < steps[1, 1] / 4
    assert small.any()
    assert (Int8Embedding(table)(ids)[1, 1][small] == 0).all(), "what rounding all rows would lose"


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


def test_a_threshold_of_the_bundled_ranker_fits_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its marks of where a text begins and ends are in every pair: rounded, they moved all scores downwards."""
    asked = ["How is a kettle descaled?", "Quand planter des tulipes ?", "How long should tea stand?"]
    contexts = [
        "A kettle is filled with water and vinegar, and boiled. Lime dissolves within an hour.",
        "Les tulipes se plantent en automne, à 15 cm de profondeur.",
        "Le train de nuit part de Paris à 21 h.",
    ]

    def log_odds(precision: Any) -> Vectors:  # noqa: ANN401
        checkpoint = opened(Path("tiny-fr-en-ranker"), "rank", precision)
        found = Scorer(checkpoint).score_pairs([(context, question) for context in contexts for question in asked])
        close_checkpoint(checkpoint)
        return found

    expected = log_odds(None)
    now = log_odds("int8") - expected
    monkeypatch.setattr(int8, "EXACT_ROWS", 0)
    all_rounded = log_odds("int8") - expected
    assert abs(now.mean()) < 0.15
    assert all_rounded.mean() < -0.15, "must show"


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
    with pytest.raises(CheckpointError, match="runs on a CPU only, but the device is mps"):
        open_checkpoint(str(tiny_bloom), "embed", device="mps", settings=LoadSettings(precision="int8"))


def test_rows_of_the_benchmark_name_it(tiny_bloom: Path, tiny_ranker: Path) -> None:
    systems, rankers = read_systems()
    assert {systems["tiny-fr-en-retriever-int8"].precision, rankers["tiny-fr-en-ranker-int8"].precision} == {"int8"}
    exact, short = (
        open_text_model(
            choose_systems(str(tiny_bloom), systems, {"pooling": "last", "precision": precision}).rows[0], "cpu"
        )
        for precision in (None, "int8")
    )
    assert exact.fingerprint != short.fingerprint, "kept vectors of one must not serve the other"
    assert 0 < np.abs(exact.encode(TEXTS) - short.encode(TEXTS)).max() < 1.0
    first, second = (
        open_cross_encoder(choose_ranker(str(tiny_ranker), rankers, {"precision": precision}), "cpu")
        for precision in (None, "int8")
    )
    (plain,), (rounded,) = (model.log_odds(TEXTS[:1], [TEXTS]) for model in (first, second))
    assert (plain != rounded).any()
    with pytest.raises(ValueError, match="precision: expected 'int8', but got 'int4'"):
        choose_systems(str(tiny_bloom), systems, {"precision": "int4"})
    with pytest.raises(ValueError, match="is for Bloom with last-token pooling"):
        open_text_model(
            choose_systems(str(tiny_bloom), systems, {"pooling": "mean", "precision": "int8"}).rows[0], "cpu"
        )
    for model in (exact, short, first, second):
        model.close()


def test_the_components_pass_it_on(tiny_bloom: Path) -> None:
    embedder = BloomzTextEmbedder.from_dict(BloomzTextEmbedder(str(tiny_bloom), precision="int8").to_dict())
    embedder.warm_up()
    assert isinstance(embedder._warm_engine().checkpoint.model.h[0].mlp.dense_4h_to_h, Int8Linear)
    embedder.close()
