"""Loading: safe, shared, freed, and clear about what is wrong."""

import gc
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from haystack_integrations.common.bloomz import checkpoint as module
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadSettings,
    choose_placement,
    close_checkpoint,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import Scorer, probabilities

MakeBloom = Callable[..., Path]
EditConfig = Callable[..., None]


def embed(folder: Path, **settings: Any) -> Checkpoint:  # noqa: ANN401
    return open_checkpoint(str(folder), "embed", device="cpu", settings=LoadSettings(**settings))


def rank(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), "rank", device="cpu")


class Malicious:
    """Runs code when unpickled: it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (str(self.trace), os.O_CREAT)


@pytest.mark.parametrize("model_kwargs", [None, {"weights_only": False}, {"use_safetensors": False}])
def test_a_pickle_that_runs_code_is_refused(
    make_bloom: MakeBloom, tmp_path: Path, model_kwargs: dict[str, object] | None
) -> None:
    folder = make_bloom(safe=False)
    trace = tmp_path / "it-ran"
    torch.save({"ln_f.weight": Malicious(trace)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot load"):
        embed(folder, model_kwargs=model_kwargs)
    assert not trace.exists()


def test_the_malicious_pickle_does_run_where_nothing_prevents_it(tmp_path: Path) -> None:
    """Negative control of the test above."""
    trace = tmp_path / "it-ran"
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()


@pytest.mark.parametrize("which", ["config_kwargs", "tokenizer_kwargs", "model_kwargs"])
def test_code_beside_the_weights_is_never_run(
    make_bloom: MakeBloom, edit_config: EditConfig, tmp_path: Path, which: str
) -> None:
    folder = make_bloom()
    trace = tmp_path / "it-ran"
    source = f"from transformers import BloomConfig\nopen({str(trace)!r}, 'w')\nclass Mine(BloomConfig): pass\n"
    (folder / "mine.py").write_text(source)
    edit_config(folder, model_type="mine", auto_map={"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"})
    with pytest.raises(CheckpointError):
        embed(folder, **{which: {"trust_remote_code": True}})
    assert not trace.exists()


def test_plain_torch_weights_load(make_bloom: MakeBloom) -> None:
    plain, safe = make_bloom(safe=False), make_bloom(safe=True)
    from_plain, from_safe = (Encoder(embed(folder)).encode(["été", "summer"]) for folder in (plain, safe))
    np.testing.assert_array_equal(from_plain, from_safe)


def test_one_copy_is_shared_and_freed_with_its_last_user(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    first, second = embed(folder), embed(folder)
    assert first is second
    weights = weakref.ref(first.model)
    close_checkpoint(first)
    assert embed(folder) is second
    close_checkpoint(second)
    close_checkpoint(second)
    del first, second
    gc.collect()
    assert weights() is None


def test_a_user_that_never_closes_does_not_keep_the_weights(make_bloom: MakeBloom) -> None:
    checkpoint = embed(make_bloom())
    weights = weakref.ref(checkpoint.model)
    del checkpoint
    gc.collect()
    assert weights() is None


def test_other_settings_give_another_copy(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    copies = [
        embed(folder),
        embed(folder, model_kwargs={"dtype": "bfloat16"}),
        embed(folder, config_kwargs={"seq_length": 5}),
        embed(folder, tokenizer_kwargs={"eos_token": "<pad>"}),
    ]
    assert len({id(copy.model) for copy in copies}) == 4
    assert copies[3].empty_token == 3


def test_sixteen_threads_load_once(make_bloom: MakeBloom, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_bloom()
    loads: list[object] = []
    original = module._load

    def counted(*given: Any) -> Checkpoint:  # noqa: ANN401
        loads.append(given[0])
        return original(*given)

    monkeypatch.setattr(module, "_load", counted)
    with ThreadPoolExecutor(16) as pool:
        opened = list(pool.map(lambda _: embed(folder), range(16)))
    assert len(loads) == 1
    assert {id(checkpoint) for checkpoint in opened} == {id(opened[0])}


def test_loads_side_by_side_keep_their_dtypes(make_bloom: MakeBloom) -> None:
    """from_pretrained sets torch's default dtype for the whole process while it works."""
    dtypes = [torch.float32, torch.bfloat16] * 4
    folders = [make_bloom(seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda f, d: embed(f, model_kwargs={"dtype": d}), folders, dtypes))
    for checkpoint, dtype in zip(opened, dtypes, strict=True):
        assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {dtype}
    assert torch.get_default_dtype() == torch.float32


def test_a_retriever_loads_from_a_language_model(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    BloomForCausalLM(BloomConfig.from_pretrained(folder)).save_pretrained(folder)
    assert Encoder(embed(folder)).encode(["été", "summer"]).shape == (2, 24)
    with pytest.raises(
        CheckpointError, match=r"is a retriever or a language model \(no classification head\), but a ran"
    ):
        rank(folder)


@pytest.mark.parametrize("said", [True, False])
def test_a_ranker_is_no_retriever_nor_the_reverse(make_bloom: MakeBloom, edit_config: EditConfig, said: bool) -> None:
    """By the architecture that the configuration names, and without one by the weights."""
    retriever, ranker = make_bloom(), make_bloom(ranker=True)
    for folder in () if said else (retriever, ranker):
        edit_config(folder, architectures=None)
    with pytest.raises(CheckpointError, match=r"is a ranker .*a retriever is needed here: .*tiny-fr-en-retriever"):
        embed(ranker)
    with pytest.raises(CheckpointError, match=r"is a retriever .*a ranker is needed here.*tiny-fr-en-ranker"):
        rank(retriever)
    assert embed(retriever).model.config.n_layer == rank(ranker).model.config.n_layer == 2


@pytest.mark.parametrize(
    ("id2label", "positive"),
    [
        ({"0": "LABEL_0", "1": "LABEL_1"}, 1),
        ({"0": "LABEL_1", "1": "LABEL_0"}, 0),
        ({"0": "no", "1": "yes"}, 1),
        ({"0": "Relevant", "1": "irrelevant"}, 0),
    ],
)
def test_the_label_comes_from_the_config(
    make_bloom: MakeBloom, edit_config: EditConfig, id2label: dict[str, str], positive: int
) -> None:
    folder = make_bloom(ranker=True)
    plain = probabilities(Scorer(rank(folder)).score("Qui ?", ["été", "summer"]))
    edit_config(folder, id2label=id2label)
    named = probabilities(Scorer(rank(folder)).score("Qui ?", ["été", "summer"]))
    np.testing.assert_allclose(named, plain if positive == 1 else 1 - plain, atol=1e-6)


@pytest.mark.parametrize(
    "id2label", [{"0": "chat", "1": "cat"}, {"0": "yes", "1": "true"}, {"0": "a", "1": "b", "2": "yes"}]
)
def test_an_unclear_label_is_an_error(make_bloom: MakeBloom, edit_config: EditConfig, id2label: dict[str, str]) -> None:
    folder = make_bloom(ranker=True)
    edit_config(folder, id2label=id2label)
    with pytest.raises(CheckpointError, match=r"cannot tell which label means relevant.*set id2label"):
        rank(folder)


def test_what_is_not_usable_is_named(make_bloom: MakeBloom, edit_config: EditConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a ranker is needed here, with a classification head"):
        rank(make_bloom(id2label={0: "LABEL_0", 1: "LABEL_1"}))
    with pytest.raises(CheckpointError, match=r"cannot load 'nobody/nothing'.*Hugging Face Hub"):
        open_checkpoint("nobody/nothing", "embed", settings=LoadSettings(local_files_only=True))
    with pytest.raises(CheckpointError, match="cannot load"):
        embed(tmp_path)
    other = make_bloom()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="is a 'bert' model, but only Bloom"):
        embed(other)
    with pytest.raises(CheckpointError, match="unknown dtype 'float31'"):
        embed(make_bloom(), model_kwargs={"dtype": "float31"})
    truncated = make_bloom()
    (truncated / "model.safetensors").write_bytes((truncated / "model.safetensors").read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot load"):
        embed(truncated)


def test_a_failed_load_can_be_tried_again(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    hidden = (folder / "config.json").rename(folder / "hidden.json")
    with pytest.raises(CheckpointError):
        embed(folder)
    hidden.rename(folder / "config.json")
    assert embed(folder).model.config.n_layer == 2


def test_no_nan_leaves_the_engine(make_bloom: MakeBloom) -> None:
    retriever, ranker = embed(make_bloom()), rank(make_bloom(ranker=True))
    for checkpoint in (retriever, ranker):
        checkpoint.model.base_model.h[0].mlp.dense_4h_to_h.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="load it in float32"):
        Encoder(retriever).encode(["été", "summer"])
    with pytest.raises(FloatingPointError, match="load it in float32"):
        Scorer(ranker).score("Qui ?", ["été"])


def test_no_nan_when_only_the_head_is_broken(make_bloom: MakeBloom) -> None:
    ranker = rank(make_bloom(ranker=True))
    ranker.model.score.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"classification head .* not finite"):
        Scorer(ranker)


def test_placement_says_why() -> None:
    assert choose_placement("cpu").reason == "cpu (asked for), float32 (exact, and the fastest here)"
    assert choose_placement("cpu", torch.bfloat16).dtype == torch.bfloat16
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="torch sees no CUDA device: use 'cpu'"):
            choose_placement("cuda:0")


def test_closing_while_another_opens_leaves_one_copy(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    errors: list[BaseException] = []

    def open_and_close() -> None:
        try:
            for _ in range(10):
                checkpoint = embed(folder)
                assert Encoder(checkpoint).encode(["été"]).shape == (1, 24)
                close_checkpoint(checkpoint)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_and_close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    gc.collect()
    assert not [key for key in module._shelf if str(folder) in key]


@pytest.mark.slow
def test_importing_and_closing_components_imports_no_transformers() -> None:
    code = (
        "import sys;"
        "from haystack_integrations.components.embedders.bloomz import BloomzDocumentEmbedder, BloomzTextEmbedder;"
        "from haystack_integrations.components.rankers.bloomz import BloomzRanker;"
        "components = [BloomzDocumentEmbedder(), BloomzTextEmbedder(), BloomzRanker()];"
        "before = set(sys.modules);"
        "[component.close() for component in components];"  # what was never loaded
        "print(sorted(set(sys.modules) - before), 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"
