"""Name of a checkpoint -> its tokenizer, its body or its whole ranker, ready to train; adapters where they are wanted.

Whatever a checkpoint holds (a language model, a retriever, a ranker), its body is taken; a head that it lacks is new.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BloomForSequenceClassification,
    BloomModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from bloomz_haystack.training.config import ModelConfig
from haystack_integrations.common.bloomz.checkpoint import resolve

LORA_TARGETS = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]  # every matrix of a layer
LORA_ALPHA = 2  # times the rank


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Load a tokenizer.

    :param name: bundled name, folder or Hub name.
    :returns: a fast tokenizer.
    :raises ValueError: if there is none.
    """
    return _loaded(name, AutoTokenizer)


def load_body(name: str) -> BloomModel:
    """Load the body of a Bloom checkpoint, be it a language model, a retriever or a ranker.

    :param name: bundled name, folder or Hub name.
    :returns: float32 weights.
    :raises ValueError: if it cannot be loaded, is no Bloom, or lacks weights.
    """
    return _whole(name, BloomModel, ())


def load_ranker(name: str) -> BloomForSequenceClassification:
    """Load a Bloom checkpoint as a ranker: its head is kept if it has one, or else new.

    :param name: bundled name, folder or Hub name.
    :returns: float32 weights.
    :raises ValueError: if it cannot be loaded, is no Bloom, or lacks weights of the body.
    """
    return _whole(name, BloomForSequenceClassification, ("score.weight",), num_labels=2)


def prepare_layers(model: PreTrainedModel, settings: ModelConfig) -> None:
    """Switch gradient checkpointing and adapters on, as configured.

    :param model: changed in place.
    :param settings: of the run.
    :raises ImportError: if adapters are wanted and peft is missing.
    """
    if settings.gradient_checkpointing:
        for layer in model.base_model.h:
            layer.gradient_checkpointing = True  # read by the packed forward
    if settings.lora_rank:
        try:
            import peft
        except ImportError as error:
            raise ImportError('peft is needed for model.lora_rank: pip install "bloomz-haystack[train]"') from error
        # No dropout: the gradient cache computes each chunk twice and must find the same numbers.
        rank, alpha = settings.lora_rank, LORA_ALPHA * settings.lora_rank
        peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=LORA_TARGETS), model)


def _whole(name: str, kind: type[PreTrainedModel], may_lack: Sequence[str], **options: Any) -> Any:  # noqa: ANN401
    if (found := _loaded(name, AutoConfig).model_type) != "bloom":
        raise ValueError(f"{name!r} is a {found!r} model, but only a Bloom can be trained")
    options |= {"dtype": torch.float32, "use_cache": False, "weights_only": True}
    model, report = _loaded(name, kind, output_loading_info=True, **options)
    missing = sorted(set(report["missing_keys"]) - set(may_lack))
    if missing:
        raise ValueError(f"{name!r} lacks {len(missing)} weights of a {kind.__name__} (first: {missing[0]})")
    return model


def _loaded(name: str, kind: Any, **options: Any) -> Any:  # noqa: ANN401
    if not sys.stderr.isatty():
        disable_progress_bar()
    try:
        return kind.from_pretrained(resolve(name), **options)
    except Exception as error:  # Hub, file system, JSON and safetensors errors share no base class
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"cannot load {name!r}: expected a bundled name, a folder or a Hub name ({reason})") from error
