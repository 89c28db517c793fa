"""The loop against what it must equal: plain gradients, one process, all weights; and what a user gets from it."""

import gzip
import hashlib
import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from tensorboard.backend.event_processing import event_accumulator
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    PreTrainedModel,
)

from bloomz_haystack.files import provenance
from bloomz_haystack.training import train
from bloomz_haystack.training.base import load_body
from bloomz_haystack.training.config import DataConfig, Source, dump_config, load_config
from bloomz_haystack.training.data.rows import Negative, TokenRow, TrainingRow, hardest
from bloomz_haystack.training.data.sampling import RowSampler, contrast_batch, labelled_batch
from bloomz_haystack.training.data.sources import TokenRows
from bloomz_haystack.training.objectives.grad_cache import backward
from bloomz_haystack.training.objectives.ranks import cosine_mrr
from bloomz_haystack.training.run import checkpoint as saving
from bloomz_haystack.training.run import loop
from bloomz_haystack.training.run.loop import DivergedError, Objective, fit
from bloomz_haystack.training.team import Team
from haystack_integrations.common.bloomz.forward import reference_last_hidden_states
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

SECONDS = 600  # an end for what hangs, also on a slow machine
ALONE = Team(0, 1, torch.device("cpu"))
WORDS = {"english": ["tower", "river", "bank", "who", "built"], "french": ["tour", "Seine", "bord", "qui", "quand"]}


def write_mined(path: Path, rows: int = 120) -> Path:
    """Write rows as mined: question, passage and three scored negatives, in both languages."""
    rng = np.random.default_rng(0)

    def sides(length: int) -> dict[str, str]:
        places = rng.integers(5, size=length)
        return {language: " ".join(words[i] for i in places) for language, words in WORDS.items()}

    with gzip.open(path, "wt", encoding="utf-8") as out:
        for number in range(rows):
            negatives = [{**sides(6), "score": score} for score in (0.1, 0.9, 0.5)]
            positive = {language: f"{text} {number}" for language, text in sides(6).items()}
            row = {"id": number, "query": sides(3), "positive": positive, "negatives": negatives}
            out.write(json.dumps(row) + "\n")
    return path


def recipe(folder: Path, base: Path | None = None, **sections: dict[str, Any]) -> Path:
    """Write a configuration of few, small steps."""
    write_mined(folder / "mined.jsonl.gz")
    run = {"steps": 4, "batch_size": 12, "save_every": 2, "chunk_tokens": 60, "tensorboard": False, "seed": 5}
    sections = {
        "data": {"sources": [{"path": "mined.jsonl.gz", "licence": "CC0"}], **sections.pop("data", {})},
        "model": {**({"base": str(base)} if base else {}), **sections.pop("model", {})},
        "run": {**run, **sections.pop("run", {})},
        **sections,
    }
    (folder / "recipe.yaml").write_text(json.dumps(sections), encoding="utf-8")
    return folder / "recipe.yaml"


def figures(out: Path) -> list[dict[str, float]]:
    """Return the log of a run."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def gradients(objective: Objective) -> dict[str, torch.Tensor]:
    """Return the gradients of all that is trained, and reset them."""
    found = {name: weight.grad for name, weight in objective.model.named_parameters() if weight.grad is not None}
    found |= {f"extra.{place}": weight.grad for place, weight in enumerate(objective.extra) if weight.grad is not None}
    objective.model.zero_grad()
    for weight in objective.extra:
        weight.grad = None
    return {name: gradient.clone() for name, gradient in found.items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference of any gradient, over the largest gradient."""
    assert one.keys() == other.keys()
    scale = max(float(gradient.abs().max()) for gradient in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


# ---------------------------------------------------------------- gradients


@pytest.fixture(scope="module")
def objective(tiny_bloom: Path, tmp_path_factory: pytest.TempPathFactory) -> Objective:
    """Return a retriever's objective over rows with hard negatives, both directions."""
    path = recipe(tmp_path_factory.mktemp("objective"), tiny_bloom, loss={"symmetric": True})
    return train.prepare_retriever(load_config(path), ALONE).objective


@pytest.fixture(scope="module")
def plain(objective: Objective) -> dict[str, torch.Tensor]:
    """Return the gradients of Hugging Face's own forward, one text at a time, all activations kept."""
    batch = objective.batch(0)
    objective.loss(reference_last_hidden_states(objective.model, batch.texts), batch).backward()
    return gradients(objective)


def cached(objective: Objective, compute: Callable[..., torch.Tensor] | None = None, **options: Any) -> float:  # noqa: ANN401
    """Leave the cached gradients of the first batch in the parameters; give the loss."""
    batch = objective.batch(0)

    def loss(outputs: torch.Tensor) -> torch.Tensor:
        return objective.loss(outputs, batch)

    settings = {"chunk_tokens": 60, **options}
    return float(backward(compute or objective.compute, loss, batch.texts, objective.width, team=ALONE, **settings))


@pytest.mark.parametrize("options", [{}, {"chunk_tokens": 1}, {"chunk_tokens": 10_000}, {"cached": False}])
def test_cached_gradients_equal_plain_ones(
    objective: Objective, plain: dict[str, torch.Tensor], options: dict[str, Any]
) -> None:
    batch = objective.batch(0)
    assert len(batch.passages) > 2 * len(batch.questions)  # there are hard negatives
    with torch.no_grad():
        loss = float(objective.loss(reference_last_hidden_states(objective.model, batch.texts), batch))
    assert cached(objective, **options) == pytest.approx(loss, abs=1e-5)
    found = gradients(objective)
    assert float(found["extra.0"].abs()) > 1e-3  # the temperature
    assert largest_difference(found, plain) < 1e-5


def test_a_wrong_cached_gradient_would_be_seen(objective: Objective, plain: dict[str, torch.Tensor]) -> None:
    """Negative control: a second pass that is not the first, a temperature left out, a hard negative less."""
    cached(objective, lambda texts: objective.compute(texts) * (1.001 if torch.is_grad_enabled() else 1.0))
    assert largest_difference(gradients(objective), plain) > 1e-4
    batch = objective.batch(0)
    backward(
        objective.compute,
        lambda outputs: objective.loss(
            outputs[:-1], batch._replace(passages=batch.passages[:-1], groups=batch.groups[:-1])
        ),
        batch.texts,
        objective.width,
        60,
        ALONE,
    )
    assert largest_difference(gradients(objective), plain) > 1e-4


def test_layers_that_are_computed_again_give_the_same_gradients_in_less_memory(
    objective: Objective, plain: dict[str, torch.Tensor]
) -> None:
    kept = Counter[bool]()

    def keep(checkpointing: bool) -> dict[str, torch.Tensor]:
        for layer in objective.model.h:
            layer.gradient_checkpointing = checkpointing

        def count(tensor: torch.Tensor) -> torch.Tensor:
            kept[checkpointing] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            cached(objective, cached=False)
        return gradients(objective)

    assert largest_difference(keep(True), plain) < 1e-5
    assert largest_difference(keep(False), plain) < 1e-5
    assert kept[True] < 0.7 * kept[False]


def test_bfloat16_keeps_its_gradients_in_the_cache_and_is_near_float32(
    objective: Objective, plain: dict[str, torch.Tensor], tiny_bloom: Path, tmp_path: Path
) -> None:
    config = load_config(recipe(tmp_path, tiny_bloom, run={"compute_dtype": "bfloat16"}))
    compute = loop._in_compute_dtype(objective, config, ALONE)
    loss = cached(objective, compute)
    found = gradients(objective)
    for checkpointing in (False, True):
        for layer in objective.model.h:
            layer.gradient_checkpointing = checkpointing
        kept_loss = cached(objective, compute, cached=checkpointing)
        assert (loss, largest_difference(gradients(objective), found)) == (kept_loss, 0)
    for layer in objective.model.h:
        layer.gradient_checkpointing = False
    assert 0 < largest_difference(found, plain) < 0.2  # rounded to 8 bits, and not float32 under another name
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


# ---------------------------------------------------------------- several processes

# One interpreter, forked after its imports: two would cost seconds more.
TWO = """
import os, sys
from pathlib import Path
for absent in ("haystack", "typer", "rich", "qdrant_edge"):
    sys.modules[absent] = None  # as on a machine that trains and does nothing else
import torch
from bloomz_haystack.training import train
from bloomz_haystack.training.objectives.grad_cache import backward
from bloomz_haystack.training.config import load_config
from bloomz_haystack.training.team import join_team

config, out, port = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
child = os.fork()
rank = 0 if child else 1
os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
team = join_team()
objective = train.prepare_retriever(load_config(config), team).objective
batch = objective.batch(0)
loss = backward(
    objective.compute, lambda outputs: objective.loss(outputs, batch), batch.texts, objective.width, 60, team
)
own = {name: weight.grad.clone() for name, weight in objective.model.named_parameters()}
team.sum(weight.grad for weight in objective.model.parameters())
if team.leads:
    summed = {name: weight.grad for name, weight in objective.model.named_parameters()}
    summed["extra.0"] = objective.extra[0].grad
    torch.save({"size": team.size, "loss": float(loss), "own": own, "summed": summed}, out / "gradients.pt")
train.train_retriever(config, out / "run")
torch.distributed.destroy_process_group()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def two(tiny_bloom: Path, tmp_path_factory: pytest.TempPathFactory, reserve_port: Callable[[], int]) -> Path:
    """Return the folder where two processes left the gradients of a step and a run."""
    folder = tmp_path_factory.mktemp("two")
    path = recipe(folder, tiny_bloom, loss={"symmetric": True})
    subprocess.run([sys.executable, "-c", TWO, path, folder, str(reserve_port())], check=True, timeout=SECONDS)
    return folder


@pytest.mark.slow
def test_two_processes_share_the_batch_and_find_the_gradients_of_one(
    two: Path, objective: Objective, plain: dict[str, torch.Tensor]
) -> None:
    found = torch.load(two / "gradients.pt", weights_only=True)
    assert found["size"] == 2
    assert found["loss"] == pytest.approx(cached(objective), abs=1e-6)
    gradients(objective)
    assert largest_difference(found["summed"], plain) < 1e-5
    own = {**found["own"], "extra.0": found["summed"]["extra.0"]}
    assert largest_difference(own, plain) > 0.1  # each did a part: negative control of the sum


@pytest.mark.slow
def test_a_run_on_two_processes_is_the_run_of_one(two: Path, tmp_path: Path, tiny_bloom: Path) -> None:
    train.train_retriever(recipe(tmp_path, tiny_bloom, loss={"symmetric": True}), tmp_path / "run")
    both, one = figures(two / "run"), figures(tmp_path / "run")
    assert [line["step"] for line in both] == [2, 4]
    for shared, alone in zip(both, one, strict=True):
        for name in ("loss", "temperature", "grad_norm", "validation_mrr"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-4), name
    shared, alone = (AutoModel.from_pretrained(folder / "run").state_dict() for folder in (two, tmp_path))
    assert max(float((shared[name] - alone[name]).abs().max()) for name in alone) < 2e-3  # written in float16


@pytest.mark.slow
def test_training_needs_neither_haystack_nor_the_command_line(two: Path) -> None:
    assert (two / "run" / "model.safetensors").exists()  # where neither can be imported


# ---------------------------------------------------------------- a share of the start


def test_what_is_saved_is_a_mean_of_the_start_and_of_what_was_trained(
    tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str, share: float, *, stop: bool = False) -> dict[str, torch.Tensor]:
        rate = {"learning_rate": 0.02, "warmup_steps": 0}
        path = recipe(tmp_path, tiny_bloom, run={"start_share": share}, optimizer=rate)
        monkeypatch.setattr(train, "HELD_OUT_ROWS", 0)
        if stop:
            monkeypatch.setattr(loop, "save_state", save_then_stop(loop.save_state))
            with pytest.raises(KeyboardInterrupt):
                train.train_retriever(path, tmp_path / name)
            monkeypatch.undo()
        train.train_retriever(path, tmp_path / name, resume=stop)
        return safetensors.torch.load_file(tmp_path / name / "model.safetensors")

    plain, mixed, resumed = trained("plain", 0.0), trained("mixed", 0.25), trained("resumed", 0.25, stop=True)
    assert np.float64(2.0**-1060) * 0.5 > 0  # whoever trained still has the numbers next to zero
    start = load_body(str(tiny_bloom)).state_dict()
    for name, weight in mixed.items():
        assert torch.equal(weight, resumed[name])
        assert torch.allclose(weight.float(), 0.75 * plain[name].float() + 0.25 * start[name], atol=1e-3)
    assert max(float((plain[name] - start[name]).abs().max()) for name in plain) > 0.02  # 0.005 of it is mixed away


def save_then_stop(save: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Save the state, then interrupt."""

    def stopping(state: Any, done: Any) -> None:  # noqa: ANN401
        save(state, done)
        raise KeyboardInterrupt

    return stopping


# ---------------------------------------------------------------- adapters, bases


@pytest.mark.parametrize("kind", ["retriever", "ranker"])
def test_adapters_alone_are_trained_resumed_and_merged(
    kind: str, tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, prepare, load = {
        "retriever": (train.train_retriever, train.prepare_retriever, AutoModel),
        "ranker": (train.train_ranker, train.prepare_ranker, AutoModelForSequenceClassification),
    }[kind]
    model = {"lora_rank": 2, "gradient_checkpointing": kind == "retriever"}
    path = recipe(tmp_path, tiny_bloom, model=model, optimizer={"learning_rate": 0.1, "warmup_steps": 0})
    run(path, tmp_path / "whole")
    monkeypatch.setattr(loop, "save_state", save_then_stop(loop.save_state))
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "stopped")
    monkeypatch.undo()
    assert (tmp_path / "stopped" / "resume.pt").stat().st_size < 200_000  # adapters, not the base
    run(path, tmp_path / "stopped", resume=True)
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == resumed

    prepared = prepare(load_config(path), ALONE)
    trained = {name for name, weight in prepared.objective.model.named_parameters() if weight.requires_grad}
    assert {name.split(".")[-3] for name in trained - {"score.weight"}} == {"lora_A", "lora_B"}
    merged, base = (load.from_pretrained(folder, dtype=torch.float32) for folder in (tmp_path / "whole", tiny_bloom))
    saved, plain = (
        {name.removeprefix("transformer.") for name in safetensors.torch.load_file(folder / "model.safetensors")}
        for folder in (tmp_path / "whole", tiny_bloom)
    )
    assert saved - {"score.weight"} == plain
    moved = {
        name
        for name, weight in merged.base_model.state_dict().items()
        if not torch.allclose(weight, base.base_model.state_dict()[name], atol=2e-3)
    }
    assert {name.split(".")[-2] for name in moved} == {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}


def test_merged_weights_compute_what_the_adapters_do(tiny_bloom: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, tiny_bloom, model={"lora_rank": 3})
    objective = train.prepare_retriever(load_config(path), ALONE).objective
    for name, weight in objective.model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    texts = objective.batch(0).texts
    merged, base = AutoModel.from_pretrained(tiny_bloom), AutoModel.from_pretrained(tiny_bloom)
    merged.load_state_dict(saving.merged_weights(objective.model))
    with torch.no_grad():
        adapted = objective.compute(texts)
        torch.testing.assert_close(adapted, reference_last_hidden_states(merged, texts), atol=1e-4, rtol=1e-5)
        assert (adapted - reference_last_hidden_states(base, texts)).abs().max() > 0.1


def test_any_bloom_is_a_base_and_gives_its_body(make_bloom: Callable[..., Path], tmp_path: Path) -> None:
    retriever, ranker = make_bloom(), make_bloom(ranker=True)
    torch.manual_seed(0)
    chat = BloomForCausalLM(BloomConfig(vocab_size=400, hidden_size=16, n_layer=2, n_head=2))
    chat.save_pretrained(tmp_path / "chat")
    for name, weight in load_body(str(tmp_path / "chat")).state_dict().items():
        torch.testing.assert_close(weight, chat.transformer.state_dict()[name], atol=0, rtol=0)
    from_retriever = load_ranker(retriever, tmp_path)
    torch.testing.assert_close(
        from_retriever.transformer.state_dict(), AutoModel.from_pretrained(retriever).state_dict(), atol=0, rtol=0
    )
    assert from_retriever.score.weight.any()  # new
    head = AutoModelForSequenceClassification.from_pretrained(ranker).score.weight
    torch.testing.assert_close(load_ranker(ranker, tmp_path).score.weight, head, atol=0, rtol=0)


def load_ranker(base: Path, folder: Path) -> PreTrainedModel:
    """Return the ranker that a run starts from."""
    return train.prepare_ranker(load_config(recipe(folder, base)), ALONE).objective.model


def test_another_kind_of_model_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ValueError, match="is a 'gpt2' model, but only a Bloom can be trained"):
        load_body(str(tmp_path / "gpt2"))
    with pytest.raises(ValueError, match="cannot load 'no/where'") as caught:
        load_body("no/where")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- what is drawn


def ids(*tokens: int) -> TokenIds:
    """Token ids of a text."""
    return np.asarray(tokens, dtype=np.int64)


BOTH = {"english": ids(1), "french": ids(2)}
NEGATIVES = [
    Negative({"english": ids(n), "french": ids(-n)}, score, n) for n, score in ((10, 0.1), (11, 0.8), (12, 0.7))
]
ROW = TrainingRow(BOTH, {"english": ids(3), "french": ids(4)}, group=7, negatives=NEGATIVES)


def sampler(*rows: TokenRow, **data: Any) -> RowSampler:  # noqa: ANN401
    """Return a sampler over one source."""
    return RowSampler([TokenRows(Source("rows"), list(rows))], np.ones(400, dtype=bool), DataConfig(**data), seed=0)


def test_the_four_language_pairs_are_uniform_or_as_given() -> None:
    def share(row: TokenRow, **data: Any) -> dict[tuple[int, int], float]:  # noqa: ANN401
        drawn = contrast_batch(sampler(row, **data), 4000, 0)
        pairs = Counter((int(q[0]), int(p[0])) for q, p in zip(drawn.questions, drawn.passages, strict=False))
        return {pair: count / 4000 for pair, count in pairs.items()}

    uniform = share(ROW)
    assert set(uniform) == {(1, 3), (1, 4), (2, 3), (2, 4)}
    assert all(abs(value - 0.25) < 0.03 for value in uniform.values())
    weighted = share(ROW, language_pairs={"french-english": 3, "english-english": 1})
    assert set(weighted) == {(2, 3), (1, 3)}
    assert abs(weighted[2, 3] - 0.75) < 0.03
    assert set(share(ROW._replace(queries={"french": ids(2)}), language_pairs={"english-english": 1})) == {
        (2, 3),
        (2, 4),
    }
    assert set(share(ROW._replace(queries=ROW.positives, parallel=True))) == {(3, 4), (4, 3)}


def test_negatives_are_the_hardest_without_false_ones_in_the_language_of_the_positive() -> None:
    row = ROW._replace(negatives=[*NEGATIVES, Negative({"english": ids(3)}, 0.75, 7)])  # the passage itself

    def groups(limit: int, false_negative: float) -> list[int]:
        return [negative.group for negative in hardest(row, limit, false_negative)]

    assert groups(10, 0.8) == [12, 10]
    assert groups(1, 0.8) == [12]
    assert groups(10, 0.81) == [11, 12, 10]
    row = row._replace(negatives=hardest(row, 10, 0.8))
    batch = contrast_batch(sampler(row, language_pairs={"english-french": 1}), 2, 0)
    assert [int(passage[0]) for passage in batch.passages] == [4, 4, -12, -10, -12, -10]
    assert batch.groups.tolist() == [7, 7, 12, 10, 12, 10]


def test_a_share_of_the_tokens_is_left_out_of_each_text_and_never_all() -> None:
    row = ROW._replace(queries={"french": np.arange(100)}, positives={"english": np.arange(200, 230)}, negatives=[])
    whole, thinned = (contrast_batch(sampler(row, token_dropout=share), 500, 3) for share in (0.0, 0.3))
    assert all(np.array_equal(ids, np.arange(100)) for ids in whole.questions)  # negative control
    assert np.mean([len(ids) for ids in thinned.questions]) == pytest.approx(70, abs=1)
    assert np.mean([len(ids) for ids in thinned.passages]) == pytest.approx(21, abs=0.5)
    assert all((np.diff(ids) > 0).all() for ids in thinned.texts)  # in order
    assert len({ids.tobytes() for ids in thinned.questions}) == 500
    assert thinned.groups.tolist() == whole.groups.tolist()
    single = contrast_batch(sampler(ROW, token_dropout=0.9), 200, 3)
    assert {len(ids) for ids in single.texts} == {1}


def test_a_ranker_sees_each_positive_with_its_ratio_of_negatives() -> None:
    row = ROW._replace(negatives=hardest(ROW, 10, 0.8))
    template = SpecialTokens([90], [91], [92])
    rng = np.random.default_rng(0)
    batch = labelled_batch(sampler(row), [row, row._replace(negatives=NEGATIVES[:1])], 2, template, rng)
    assert batch.labels.tolist() == [1, 0, 0, 1, 0]
    assert batch.questions.tolist() == [0, 0, 0, 1, 1]
    assert {abs(int(text[1])) for text in batch.texts[1:3]} == {10, 12}
    assert all(text[[0, 2, 4]].tolist() == [90, 91, 92] for text in batch.texts)
    drawn = Counter(int(labelled_batch(sampler(ROW), [ROW], 0, template, rng).texts[0][3]) for _ in range(2000))
    assert abs(drawn[1] / 2000 - 0.5) < 0.05


def test_mrr_by_hand_and_a_constant_model_gains_nothing() -> None:
    questions = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    passages = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    assert cosine_mrr(questions, passages) == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)  # ranks 1, 3, 2
    assert cosine_mrr(torch.ones(4, 2), torch.ones(4, 2)) == 0.25


# ---------------------------------------------------------------- the run


@pytest.fixture(scope="module")
def finished(tiny_bloom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was started as a stranger would, without the command line's typer."""
    folder = tmp_path_factory.mktemp("finished")
    path = recipe(folder, run={"tensorboard": True}, optimizer={"warmup_steps": 1})
    given = ["train", "retriever", "--config", str(path), "--data", str(folder / "mined.jsonl.gz")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [*given, "--base", str(tiny_bloom), "--out", str(folder / "out")])
        train.main()
    return folder / "out"


def test_the_record_tells_settings_data_and_code(finished: Path) -> None:
    record = json.loads((finished / "training.json").read_text(encoding="utf-8"))
    data = (finished.parent / "mined.jsonl.gz").read_bytes()
    assert record["data"][0]["sha256"] == {"mined.jsonl.gz": hashlib.sha256(data).hexdigest()}
    assert record["data"][0]["rows"] + record["data"][0]["held_out"] == 120
    assert (record["kind"], record["steps_done"] % 2) == ("retriever", 0)
    losses = {
        "symmetric": False,
        "temperature": 0.07,
        "negatives_per_positive": 3,
        "grid": 0,
        "shuffled_words": 0.0,
        "prior": 0.0,
    }
    assert record["settings"]["loss"] == losses
    assert record["versions"]["torch"] == torch.__version__
    assert record["git_commit"] is None or len(record["git_commit"].removesuffix("-dirty")) == 40
    assert str(finished.parent) not in json.dumps(record)


def test_a_commit_is_that_of_this_code_or_none(tmp_path: Path) -> None:
    code = tmp_path / "site-packages" / "provenance.py"
    code.parent.mkdir()
    code.touch()
    (tmp_path / "weights").write_text("first", encoding="utf-8")
    commit = ["-c", "user.name=a", "-c", "user.email=b", "commit", "--allow-empty", "-m", "mine"]

    def git(*command: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)

    git("init")
    git(*commit)
    assert provenance.git_commit(code) is None  # installed inside somebody's repository
    git("add", ".")
    assert str(provenance.git_commit(code)).endswith("-dirty")
    git(*commit)
    (tmp_path / "weights").write_text("second", encoding="utf-8")  # no code: bundled.sh puts the retriever in its place
    assert len(str(provenance.git_commit(code))) == 40


def test_the_card_is_written_from_the_run(finished: Path) -> None:
    card = (finished / "README.md").read_text(encoding="utf-8")
    record = json.loads((finished / "training.json").read_text(encoding="utf-8"))
    front = yaml.safe_load(card.split("---")[1])
    assert front["language"] == ["fr", "en"]
    assert front["base_model"] == record["settings"]["model"]["base"]
    for needed in (
        "| mined.jsonl.gz | ",
        "| not stated |",
        "bloomz train retriever",
        "## Limits",
        "10 hardest negatives",
    ):
        assert needed in card
    assert f"| validation mrr | {record['validation']['validation_mrr']:.4f} |" in card
    assert str(finished.parent) not in card


def test_a_run_goes_on_from_another_folder(tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path, tiny_bloom)
    monkeypatch.chdir(tmp_path)
    relative = dump_config(load_config(Path(path.name), base=os.path.relpath(tiny_bloom)))
    monkeypatch.chdir("/")
    assert dump_config(load_config(path)) == relative
    hub = dump_config(load_config(path, data="owner/rows", base="owner/model"))
    assert (hub["data"]["sources"][0]["path"], hub["model"]["base"]) == ("owner/rows", "owner/model")


def test_the_record_makes_the_same_model_again(finished: Path, tiny_bloom: Path) -> None:
    config = finished.parent / "again.json"
    record = json.loads((finished / "training.json").read_text(encoding="utf-8"))
    assert record["settings"]["model"]["base"] == tiny_bloom.name  # no path of this machine
    config.write_bytes((finished / "training.json").read_bytes())
    train.train_retriever(config, finished.parent / "again", base=str(tiny_bloom))
    again, first = ((folder / "model.safetensors").read_bytes() for folder in (finished.parent / "again", finished))
    assert again == first


def test_each_step_is_logged_and_drawn(finished: Path) -> None:
    log = figures(finished)
    assert [line["step"] for line in log] == [2, 4]
    assert log[-1]["seconds_left"] == 0
    assert log[-1]["tokens_per_second"] > 0
    assert {"loss", "temperature", "grad_norm", "validation_mrr", "mrr_french-english"} <= log[-1].keys()
    assert 0 < log[-1]["temperature"] < 0.08
    events = event_accumulator.EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("validation/validation_mrr")] == [2, 4]


def test_without_tensorboard_a_line_says_so_and_the_run_goes_on(
    tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    path = recipe(tmp_path, tiny_bloom, run={"tensorboard": True, "steps": 1})
    with caplog.at_level(logging.WARNING):
        train.train_ranker(path, tmp_path / "out")
    assert [record.message for record in caplog.records if "TensorBoard" in record.message] != []
    assert not (tmp_path / "out" / "tensorboard").exists()
    assert {"validation_mrr", "validation_top1"} <= figures(tmp_path / "out")[0].keys()


@pytest.mark.parametrize("missing", ["peft", "accelerate"])
def test_a_missing_extra_is_named(
    missing: str, tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "accelerate":
        monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ImportError, match=rf'{missing} is needed .*pip install "bloomz-haystack\[train\]"'):
        train.train_retriever(recipe(tmp_path, tiny_bloom, model={"lora_rank": 2}), tmp_path / "out")


class Scripted:
    """An objective whose losses and scores are known beforehand."""

    width = 1

    def __init__(self, model: PreTrainedModel, losses: Sequence[float], scores: Sequence[float]) -> None:
        self.model = model
        self.extra = [torch.nn.Parameter(torch.tensor(9.0))]
        self._losses, self._scores = list(losses), list(scores)
        self.texts = [ids(5, 6)]

    def batch(self, step: int) -> "Scripted":
        return self

    def compute(self, texts: Sequence[TokenIds]) -> torch.Tensor:
        return self.model.get_input_embeddings().weight[[int(text[0]) for text in texts], :1]

    def loss(self, outputs: torch.Tensor, batch: object) -> torch.Tensor:
        return outputs.sum() * 0 + self.extra[0] * self._losses.pop(0)

    def after_step(self) -> None:
        pass

    def figures(self) -> dict[str, float]:
        return {}

    def validate(self, compute: object) -> dict[str, float]:
        return {"score": self._scores.pop(0)} if self._scores else {}


def run_scripted(folder: Path, base: Path, losses: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Run five steps; give those that were saved."""
    saved: list[int] = []
    config = load_config(recipe(folder, base, run={"steps": 5, "save_every": 1}))
    objective = Scripted(AutoModel.from_pretrained(base), losses, scores)
    fit(objective, config, folder, ALONE, lambda step, found: saved.append(step))
    return saved


def test_the_best_checkpoint_is_kept(tiny_bloom: Path, tmp_path: Path) -> None:
    assert run_scripted(tmp_path, tiny_bloom, [1] * 5, [0.2, 0.9, 0.5, 0.9, 0.95]) == [1, 2, 5]
    assert run_scripted(tmp_path, tiny_bloom, [1] * 5, []) == [1, 2, 3, 4, 5]  # nothing held out: the last


def test_a_loss_that_is_not_a_number_stops_the_run(tiny_bloom: Path, tmp_path: Path) -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(DivergedError, match=r"step 2 diverged \(loss (nan|inf)"):
            run_scripted(tmp_path, tiny_bloom, [1, 1, bad], [0.1, 0.2])
        assert torch.load(tmp_path / "resume.pt", weights_only=True)["step"] == 2


def test_a_full_disk_is_one_line_and_the_last_state_goes_on(tiny_bloom: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, tiny_bloom)
    train.train_retriever(path, tmp_path / "whole")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (20_000, 120_000):  # the weights do not fit; they do, the state does not
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OSError, match=r"cannot write .*make room") as full:
                train.train_retriever(path, tmp_path / "full")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(full.value)
        assert not list((tmp_path / "full").glob("resume.pt*"))
    train.train_retriever(path, tmp_path / "full")
    assert not list((tmp_path / "full").glob("*.part"))
    whole, after = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "full"))
    assert whole == after


def test_a_diverged_run_exits_with_1_and_a_mistake_with_2(
    tiny_bloom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, tiny_bloom, optimizer={"learning_rate": 1e30, "warmup_steps": 0}, run={"steps": 20})
    given = ["train", "retriever", "--config", str(path), "--out", str(tmp_path / "out")]
    for more, code, said in (([], 1, "diverged"), (["--data", "absent"], 2, "no such data file")):
        monkeypatch.setattr(sys, "argv", [*given, *more])
        with pytest.raises(SystemExit) as left:
            train.main()
        assert left.value.code == code
        lines = [line for line in capsys.readouterr().err.splitlines() if said in line]
        assert len(lines) == 1


def test_the_temperature_is_clamped_and_comes_back(objective: Objective) -> None:
    (scale,) = objective.extra
    before = scale.detach().clone()
    with torch.no_grad():
        scale.fill_(7.0)
    objective.after_step()
    assert objective.figures()["temperature"] == pytest.approx(0.01)
    cached(objective)
    assert scale.grad is not None
    assert scale.grad > 0  # clamped inside the loss, it would have none
    gradients(objective)
    with torch.no_grad():
        scale.copy_(before)
