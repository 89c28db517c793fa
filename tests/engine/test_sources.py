"""Plain files give what transformers gives, and are read only where that is so."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from haystack_integrations.common.bloomz.bloom import BloomBody, BloomWithHead
from haystack_integrations.common.bloomz.checkpoint import (
    BUNDLED_FOLDER,
    BUNDLED_RANKER,
    BUNDLED_RETRIEVER,
    CheckpointError,
    LoadSettings,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.sources import HuggingFaceFiles, PlainFiles, Task, plain_files

MakeBloom = Callable[..., Path]
CONFIG: tuple[str, ...] = (
    "n_layer",
    "n_head",
    "hidden_size",
    "vocab_size",
    "layer_norm_epsilon",
    "pad_token_id",
    "eos_token_id",
)
CONFIG += ("id2label", "architectures", "model_type", "apply_residual_connection_post_layernorm")
TEXTS = ["Où se trouve la tour Eiffel ?", "Where is the Eiffel tower?", "", " e\u0301te\u0301</s> <pad>x\n"]


def folders(make_bloom: MakeBloom) -> list[tuple[Path, Task]]:
    language_model = make_bloom()
    BloomForCausalLM(BloomConfig.from_pretrained(language_model)).save_pretrained(language_model)
    return [
        (BUNDLED_FOLDER / BUNDLED_RETRIEVER, "embed"),
        (BUNDLED_FOLDER / BUNDLED_RANKER, "rank"),
        (make_bloom(apply_residual_connection_post_layernorm=True), "embed"),
        (make_bloom(ranker=True), "rank"),
        (make_bloom(), "rank"),
        (make_bloom(ranker=True), "embed"),
        (language_model, "embed"),
    ]


def by_transformers(folder: Path) -> HuggingFaceFiles:
    own: dict[str, dict[str, Any]] = {"config": {}, "tokenizer": {}, "model": {}}
    return HuggingFaceFiles(str(folder), {"local_files_only": True}, own, False)


def test_plain_files_are_what_transformers_loads(make_bloom: MakeBloom) -> None:
    for folder, task in folders(make_bloom):
        ours, theirs = plain_files(str(folder), None, False), by_transformers(folder)
        assert ours is not None
        configs = ours.config(), theirs.config()
        for name in CONFIG:
            assert getattr(configs[0], name) == getattr(configs[1], name), name
        assert getattr(configs[0], "score_prior", None) == getattr(configs[1], "score_prior", None)
        (tokenizer, eos), (reference, expected) = ours.tokenizer(), theirs.tokenizer()
        assert eos == expected
        for text in TEXTS:
            assert tokenizer.encode(text).ids == reference.encode(text).ids
        for dtype in (torch.float32, torch.bfloat16):
            plain, loaded = ours.weights(task, configs[0], dtype), theirs.weights(task, configs[1], dtype)
            assert plain.missing == loaded.missing
            assert ("score.weight" in plain.unexpected) == ("score.weight" in loaded.unexpected)
            if not plain.missing:
                weights, reference_weights = plain.model.state_dict(), loaded.model.state_dict()
                assert list(weights) == list(reference_weights)
                for name, weight in weights.items():
                    assert weight.dtype == dtype
                    assert torch.equal(weight, reference_weights[name]), name


def test_a_model_of_plain_files_calls_the_forward_of_hugging_face(make_bloom: MakeBloom) -> None:
    ids = torch.arange(4, 24)[None]
    for folder, task in ((make_bloom(), "embed"), (make_bloom(ranker=True), "rank")):
        settings = LoadSettings(tokenizer_kwargs={"padding_side": "left"})
        plain = open_checkpoint(str(folder), task, device="cpu").model  # type: ignore[arg-type]
        loaded = open_checkpoint(str(folder), task, device="cpu", settings=settings).model  # type: ignore[arg-type]
        assert isinstance(plain, BloomWithHead if task == "rank" else BloomBody)
        assert not isinstance(loaded, BloomWithHead | BloomBody)
        torch.testing.assert_close(plain(input_ids=ids)[0], loaded(input_ids=ids)[0], atol=0, rtol=0)


def edited(folder: Path, name: str, **values: object) -> None:
    file = folder / name
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**known, **values}), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: edited(folder, "adapter_config.json", peft_type="LORA"),
        lambda folder: edited(folder, "special_tokens_map.json", eos_token="<pad>"),
        lambda folder: edited(folder, "tokenizer_config.json", add_bos_token=True),
        lambda folder: edited(folder, "tokenizer_config.json", eos_token="<fin>"),
        lambda folder: edited(folder, "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast"),
        lambda folder: edited(folder, "tokenizer.json", post_processor=None),
        lambda folder: edited(folder, "config.json", quantization_config={"bits": 4}),
        lambda folder: edited(folder, "config.json", n_embed=24),
        lambda folder: edited(folder, "config.json", hidden_size=None),
        lambda folder: edited(folder, "config.json", model_type="bert"),
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: (folder / "config.json").write_text("["),
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.safetensors"),
    ],
)
def test_whatever_transformers_might_read_otherwise_is_left_to_it(
    make_bloom: MakeBloom, change: Callable[[Path], object]
) -> None:
    folder = make_bloom()
    assert plain_files(str(folder), None, False) is not None
    change(folder)
    assert plain_files(str(folder), None, False) is None


def test_sharded_weights_are_plain(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    config = BloomConfig.from_pretrained(folder)
    model = by_transformers(folder).weights("embed", config, torch.float32).model
    whole = PlainFiles(folder)
    expected = whole.weights("embed", whole.config(), torch.float32).model.state_dict()
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    found = plain_files(str(folder), None, False)
    assert found is not None
    torch.testing.assert_close(
        found.weights("embed", found.config(), torch.float32).model.state_dict(), expected, atol=0, rtol=0
    )


def test_a_shape_that_the_configuration_denies_is_one_line(make_bloom: MakeBloom) -> None:
    folder = make_bloom()
    edited(folder, "config.json", vocab_size=7)
    with pytest.raises(CheckpointError, match=r"embeddings.weight has the shape .*, but config.json says \(7, 24\)"):
        open_checkpoint(str(folder), "embed", device="cpu")


@pytest.mark.slow
def test_the_bundled_pair_needs_neither_transformers_nor_the_compiler() -> None:
    code = (
        "import sys\n"
        "from haystack_integrations.components.embedders.bloomz import BloomzTextEmbedder\n"
        "from haystack_integrations.components.rankers.bloomz import BloomzRanker\n"
        "from haystack import Document\n"
        f"BloomzTextEmbedder('{BUNDLED_RETRIEVER}').run('Où ?')\n"
        f"BloomzRanker('{BUNDLED_RANKER}').run(query='Où ?', documents=[Document(content='Ici.')])\n"
        "heavy = ('transformers', 'torch._dynamo', 'torch.distributed.tensor', 'scipy', 'sympy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
