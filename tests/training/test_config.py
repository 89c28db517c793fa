"""The recipe, on a few hundred made-up pairs: losses by hand, a run end to end, and what a user gets wrong."""

import gzip
import json
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from bloomz_haystack import training
from bloomz_haystack.training.config import RunConfig, TrainConfig, dump_config, load_config
from bloomz_haystack.training.data.sources import read_rows
from bloomz_haystack.training.objectives.losses import info_nce, pair_cross_entropy
from bloomz_haystack.training.run.loop import DivergedError
from bloomz_haystack.training.run.state import RunProgress, State, load_state, save_state
from bloomz_haystack.training.train import train_ranker, train_retriever
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack
from haystack_integrations.common.bloomz.scorer import Scorer

ENGLISH = [
    "river",
    "bank",
    "card",
    "storm",
    "garden",
    "bread",
    "school",
    "winter",
    "train",
    "music",
    "doctor",
    "window",
    "island",
    "coffee",
    "bridge",
]
FRENCH = [
    "fleuve",
    "banque",
    "carte",
    "orage",
    "jardin",
    "pain",
    "école",
    "hiver",
    "train",
    "musique",
    "médecin",
    "fenêtre",
    "île",
    "café",
    "pont",
]


def write_pairs(path: Path, rows: int = 300) -> Path:
    """Write questions made of two words and passages that hold both; French words translate the English ones."""
    rng = np.random.default_rng(0)
    with gzip.open(path, "wt", encoding="utf-8") as out:
        for number in range(rows):
            words = rng.choice(len(ENGLISH), size=7)
            sides = {
                name: {
                    "query": f"{vocabulary[words[0]]} {vocabulary[words[1]]} ?",
                    "positive": " ".join(vocabulary[i] for i in words) + f" {number}.",
                }
                for name, vocabulary in (("english", ENGLISH), ("french", FRENCH))
            }
            row = {key: {name: side[key] for name, side in sides.items()} for key in ("query", "positive")}
            out.write(json.dumps({"id": number, **row}, ensure_ascii=False) + "\n")
    return path


SECTIONS = {key: section for section, kind in get_type_hints(TrainConfig).items() for key in get_type_hints(kind)}
SHAPE = {"vocab_size": 400, "hidden_size": 32, "n_layer": 2, "n_head": 1}


def write_config(folder: Path, **values: Any) -> Path:  # noqa: ANN401
    """Write a configuration, each value in its section; JSON is YAML."""
    defaults = {
        "sources": [{"path": write_pairs(folder / "pairs.jsonl.gz").name}],
        "inverse_cloze": 0.25,
        "symmetric": True,
        "learning_rate": 1e-3,
        "embedding_learning_rate": 1e-2,
        "warmup_steps": 2,
        "steps": 12,
        "batch_size": 32,
        "save_every": 6,
        "seed": 3,
        "tensorboard": False,
    }
    sections: dict[str, dict[str, Any]] = {}
    for key, value in {**defaults, **values}.items():
        sections.setdefault(SECTIONS.get(key, "run"), {})[key] = value
    (folder / "recipe.yaml").write_text(json.dumps(sections), encoding="utf-8")
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a retriever trained for twelve steps."""
    folder = tmp_path_factory.mktemp("retriever")
    train_retriever(write_config(folder, shape={**SHAPE, "hidden_size": 48}), folder / "out")
    return folder / "out"


def figures(out: Path) -> list[dict[str, float]]:
    """Return the log of a run."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_info_nce_equals_the_sum_written_by_hand() -> None:
    questions = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    passages = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # cosines: question 0: 1, 1/sqrt(2); question 1: 0, 1/sqrt(2); scale 10
    half = 10 / math.sqrt(2)
    first = -10 + math.log(math.exp(10) + math.exp(half))
    second = -half + math.log(math.exp(0) + math.exp(half))
    groups = torch.tensor([0, 1])
    loss = info_nce(questions, passages, torch.tensor(math.log(10.0)), groups)
    assert float(loss) == pytest.approx((first + second) / 2, abs=1e-5)
    back = [-10 + math.log(math.exp(10) + math.exp(0)), -half + math.log(2 * math.exp(half))]
    symmetric = info_nce(questions, passages, torch.tensor(math.log(10.0)), groups, symmetric=True)
    assert float(symmetric) == pytest.approx((first + second) / 4 + sum(back) / 4, abs=1e-5)


def test_info_nce_does_not_push_away_the_same_passage() -> None:
    vectors = torch.eye(3)
    same = info_nce(vectors, vectors[[0, 0, 2]], torch.tensor(0.0), torch.tensor([7, 7, 8]))
    apart = info_nce(vectors, vectors[[0, 0, 2]], torch.tensor(0.0), torch.tensor([7, 9, 8]))
    # Masked, question 0 has one negative of cosine 0 left; unmasked, one of cosine 1 too.
    assert float(apart - same) > 0.2


def test_pair_cross_entropy_by_hand() -> None:
    loss = pair_cross_entropy(torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]]), torch.tensor([1, 0]))
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, abs=1e-6)


def test_a_trained_retriever_learns_the_translation_and_loads_everywhere(retriever: Path) -> None:
    log = figures(retriever)
    assert [row["step"] for row in log] == [6, 12]
    assert log[1]["loss"] < log[0]["loss"]
    tokenizer = AutoTokenizer.from_pretrained(retriever)
    assert tokenizer.padding_side == "left"
    model = AutoModel.from_pretrained(retriever, dtype=torch.float32)
    text = "river bank ?"
    with torch.no_grad():
        plain = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, -1].numpy()
    ours = Encoder(open_checkpoint(str(retriever), "embed", device="cpu")).encode([text], normalize=False)[0]
    np.testing.assert_allclose(ours, plain, atol=1e-5)
    assert json.loads((retriever / "training.json").read_text())["data"][0]["path"] == "pairs.jsonl.gz"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(retriever: Path, tmp_path: Path) -> None:
    shape = {**SHAPE, "hidden_size": 48}
    train_retriever(write_config(tmp_path, shape=shape), tmp_path / "again")
    train_retriever(write_config(tmp_path, shape=shape, seed=4), tmp_path / "other")
    first, again, other = (
        (folder / "model.safetensors").read_bytes() for folder in (retriever, tmp_path / "again", tmp_path / "other")
    )
    assert first == again
    assert first != other


KILLED = """
import os, signal, sys
from pathlib import Path
from bloomz_haystack.training import train
from bloomz_haystack.training.run import loop
save_state = loop.save_state
def save_then_die(state, done):
    save_state(state, done)
    if done.step == 4:
        log = state.out / "log.jsonl"
        log.open("a").write('{"step": 6, "loss": 0}\\n{"st')  # what a later, lost step had written
        os.kill(os.getpid(), signal.SIGKILL)
loop.save_state = save_then_die
train.train_retriever(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_kill_9_then_resume_gives_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    config = write_config(tmp_path, shape=SHAPE, steps=8, save_every=2)
    train_retriever(config, tmp_path / "whole")
    killed = subprocess.run([sys.executable, "-c", KILLED, config, tmp_path / "killed"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "resume.pt").exists()
    train_retriever(config, tmp_path / "killed", resume=True)
    whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == resumed
    assert [line["step"] for line in figures(tmp_path / "killed")] == [2, 4, 6, 8]
    assert not (tmp_path / "killed" / "resume.pt").exists()
    for name in ("loss", "validation_mrr", "temperature", "grad_norm"):
        assert figures(tmp_path / "killed")[-1][name] == figures(tmp_path / "whole")[-1][name]


def test_resume_refuses_another_configuration_a_torn_state_and_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path, shape=SHAPE, steps=2, save_every=2)
    with pytest.raises(ValueError, match="holds no unfinished run"):
        train_retriever(config, tmp_path / "none", resume=True)
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    state = State(tmp_path, {"run": {"steps": 2}}, dict(layer.named_parameters()), optimizer, schedule)
    save_state(state, RunProgress(1, 0.5))
    with pytest.raises(ValueError, match=r"started with another run\.steps"):
        load_state(state._replace(settings={"run": {"steps": 3}}))
    assert load_state(state) == RunProgress(1, 0.5)
    file = tmp_path / "resume.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is torn"):
        load_state(state)


def test_a_run_is_measured_on_the_rows_given_for_it(retriever: Path, tmp_path: Path) -> None:
    own = {"query": {"english": "river"}, "positive": {"english": "river bank"}}
    (tmp_path / "watched.jsonl").write_text(json.dumps(own) + "\n", encoding="utf-8")
    config = write_config(tmp_path, base=str(retriever), steps=1, save_every=1, validation=["watched.jsonl"])
    train_retriever(config, tmp_path / "out")
    last = figures(tmp_path / "out")[-1]
    assert last["validation_mrr"] == last["mrr_english-english"] == 1.0  # one row: nothing to confuse it with
    assert "mrr_french-french" not in last


def test_words_are_the_same_with_and_without_accents_case_and_apostrophe(retriever: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(retriever)
    assert tokenizer("école")["input_ids"] == tokenizer("ECOLE")["input_ids"]
    assert tokenizer("l'école")["input_ids"][-1] == tokenizer("école")["input_ids"][-1]
    assert tokenizer(" \n\t")["input_ids"] == [tokenizer.bos_token_id]


def test_a_new_ranker_counts_matched_words_and_training_keeps_it_loadable(retriever: Path, tmp_path: Path) -> None:
    shape = {"vocab_size": 400, "hidden_size": 128, "n_layer": 3, "n_head": 2}
    values = {
        "shape": shape,
        "retriever": str(retriever),
        "steps": 6,
        "save_every": 3,
        "learning_rate": 1e-5,
    }
    config = write_config(tmp_path, **values, embedding_learning_rate=1e-5)
    train_ranker(config, tmp_path / "ranker")
    scorer = Scorer(open_checkpoint(str(tmp_path / "ranker"), "rank", device="cpu"))
    contexts = ["storm garden bread school.", "river storm garden bread.", "river bank garden bread."]
    none, one, both = scorer.score("river bank", contexts)
    assert none < one < both
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ranker")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ranker", dtype=torch.float32)
    with torch.no_grad():
        logits = model(**tokenizer(contexts[2], "river bank", return_tensors="pt")).logits[0]
    assert float(logits[1] - logits[0]) == pytest.approx(float(both), abs=1e-4)


def test_gradients_reach_every_parameter_through_the_packed_forward(retriever: Path) -> None:
    model = AutoModel.from_pretrained(retriever, dtype=torch.float32, use_cache=False)
    ids = [np.array([5, 6, 7]), np.array([8, 9])]
    last_hidden_states(model, pack(ids)).square().sum().backward()
    packed = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    states = [model(input_ids=torch.from_numpy(row)[None]).last_hidden_state[0, -1] for row in ids]
    torch.stack(states).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(packed[name], parameter.grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stepz": 3, "base": "x"},
            r"run: unknown key 'stepz' \(did you mean 'steps'\?\); known are steps, batch_size",
        ),
        ({"sources": [], "base": "x"}, r"'data\.sources' must list"),
        ({"sources": "a.jsonl", "base": "x"}, "data.sources: expected a list, but got 'a.jsonl'"),
        ({"sources": [{"weight": 1}], "base": "x"}, r"data\.sources\.0: lacks the key 'path'"),
        ({"sources": ["absent.jsonl"], "base": "x"}, "no such data file"),
        ({"sources": ["$NO_SUCH_VARIABLE/a.jsonl"], "base": "x"}, "environment variable"),
        ({"shape": {}}, "either 'model.base'"),
        ({"steps": "many", "base": "x"}, "run.steps: expected a whole number, but got 'many'"),
        ({"steps": 0, "base": "x"}, "run.steps: expected a number greater than or equal to 1, but got 0"),
        (
            {"learning_rate": -1, "base": "x"},
            "optimizer.learning_rate: expected a number greater than or equal to 0, but got -1",
        ),
        ({"learning_rate": float("nan"), "base": "x"}, "optimizer.learning_rate: expected a number, but got 'NaN'"),
        ({"symmetric": "yes please", "base": "x"}, "loss.symmetric: expected true or false, but got 'yes please'"),
        ({"compute_dtype": "float16", "base": "x"}, "expected 'auto', 'float32' or 'bfloat16', but got 'float16'"),
        (
            {"language_pairs": {"french-german": 1}, "base": "x"},
            "data.language_pairs.french-german: expected 'english-english', .*but got 'french-german'",
        ),
        ({"lora_rank": -1, "base": "x"}, "model.lora_rank: expected a number greater than or equal to 0, but got -1"),
        ({"calibration": [1], "base": "x"}, "run.calibration must be fit, or a scale > 0 and a shift, but got"),
        ({"calibration": "platt", "base": "x"}, "run.calibration.*but got 'platt'"),
        ({"grid": 1, "base": "x"}, "loss.grid must be 0"),
    ],
)
def test_a_bad_configuration_is_one_clear_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_config(write_config(tmp_path, **change))
    assert "\n" not in str(caught.value)


def test_the_keys_of_version_0_1_are_read_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = {
        "data": {
            "sources": [write_pairs(tmp_path / "pairs.jsonl.gz").name],
            "mined_rows": 12_000,
            "validation_rows": 9,
        },
        "model": {"base": "x", "lora": {"rank": 8, "alpha": 32}},
        "optimizer": {"weight_decay": 0.0, "max_grad_norm": 100},
        "run": {"precision": "bfloat16", "calibrate": True, "calibration": []},
    }
    (tmp_path / "old.yaml").write_text(json.dumps(old), encoding="utf-8")
    config = load_config(tmp_path / "old.yaml")
    assert (config.run.compute_dtype, config.run.calibration, config.model.lora_rank) == ("bfloat16", "fit", 8)
    notes = [record.getMessage() for record in caplog.records]
    for key in ("data.validation_rows", "model.lora", "optimizer.max_grad_norm", "run.precision", "run.calibrate"):
        assert sum(f"old.yaml: {key}" in note and "the next version" in note for note in notes) == 1
    assert len(notes) == 5  # none for values that have not changed
    again = tmp_path / "new.json"
    again.write_text(json.dumps({"settings": dump_config(config)}), encoding="utf-8")
    assert dump_config(load_config(again)) == dump_config(config)
    assert len(caplog.records) == 5


def test_a_configuration_takes_the_keys_that_it_lacks_from_the_one_that_it_extends(tmp_path: Path) -> None:
    first = load_config(write_config(tmp_path, base="x"))
    second = tmp_path / "second.yaml"
    second.write_text('{"extends": "recipe.yaml", "run": {"steps": 7}}', encoding="utf-8")
    found = load_config(second)
    assert (found.data, found.model, found.optimizer) == (first.data, first.model, first.optimizer)
    assert found.run == replace(first.run, steps=7)
    assert (first.run.seed, RunConfig().seed) == (3, 0)
    second.write_text('{"extends": "recipe.yaml", "data": {"sources": []}, "run": 7}', encoding="utf-8")
    with pytest.raises(ValueError, match="run"):
        load_config(second)
    second.write_text('{"extends": "second.yaml", "run": {"steps": 7}}', encoding="utf-8")
    with pytest.raises(ValueError, match="'extends' must name another file, which extends none, but got second"):
        load_config(second)


@pytest.mark.parametrize("path", sorted(Path(training.__file__).parent.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_is_a_configuration(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = "".join(file.read_text("utf-8") for file in path.parent.glob("*.yaml"))  # one may extend another
    for variable, rest in re.findall(r"\$(\w+)([^\s,}]*)", texts):
        monkeypatch.setenv(variable, str(tmp_path))
        (tmp_path / rest.lstrip("/")).touch()
    loaded = load_config(path)
    assert loaded.data.sources
    assert all(source.licence for source in loaded.data.sources)


def test_a_bad_row_is_named_and_too_many_stop_the_run(tmp_path: Path) -> None:
    good = [
        json.dumps({"query": {"french": "Où ?", "english": None}, "positive": {"french": f"Là {i}.", "english": None}})
        for i in range(150)
    ]
    one_bad = tmp_path / "one.jsonl"
    one_bad.write_text("\n".join([*good, '{"positive": {"english": 3}}']), encoding="utf-8")
    config = load_config(write_config(tmp_path, sources=[one_bad.name], base="x"))
    rows = read_rows(config.data.sources[0])
    assert len(rows.bad) == 1
    assert "one.jsonl:151:" in rows.bad[0]
    one_bad.write_text("\n".join([*good[:10], "{", "{"]), encoding="utf-8")
    with pytest.raises(ValueError, match="2 bad rows of 12"):
        read_rows(config.data.sources[0])


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_checkpoint(retriever: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, base=str(retriever), steps=40, save_every=1, learning_rate=1e30, embedding_learning_rate=1e30
    )
    with pytest.raises(DivergedError, match=r"step \d+ diverged \(loss nan"):
        train_retriever(config, tmp_path / "out")
