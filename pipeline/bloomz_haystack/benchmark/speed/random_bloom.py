"""A shape and a depth -> a random Bloom on disk, as wide as a published one: speed does not depend on the values.

The vocabulary is cut to the words of `random_texts`: a token is looked up, not multiplied, so its number does not
matter. One folder serves as retriever and, with its two-label head, as ranker.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    BloomConfig,
    BloomForSequenceClassification,
    BloomModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from bloomz_haystack.benchmark.speed.random_texts import ENGLISH, FRENCH
from haystack_integrations.common.bloomz.checkpoint import LoadSettings, Placement, Task
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.common.bloomz.linear import prepare_linear

# ids 0 to 3, as in the published checkpoints
SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


class Shape(NamedTuple):
    """Width and depth of a published model, and how much of it a quick run computes."""

    hidden: int
    heads: int
    layers: int
    quick_layers: int
    passages: int
    candidates: int


SHAPES = {
    "560m": Shape(1024, 16, 24, quick_layers=1, passages=32, candidates=100),
    "3b": Shape(2560, 32, 30, quick_layers=1, passages=16, candidates=24),
    "tiny": Shape(64, 4, 2, quick_layers=2, passages=32, candidates=100),
}


def save_random_bloom(folder: Path, shape: Shape, layers: int, seed: int = 0) -> None:
    """Write a checkpoint of `BloomForSequenceClassification` with two labels, and its tokenizer.

    :param folder: where.
    :param shape: its width.
    :param layers: its depth.
    :param seed: of the weights.
    """
    tokenizer = _word_tokenizer()
    config = BloomConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        n_head=shape.heads,
        n_layer=layers,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
        seq_length=2048,
        num_labels=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BloomForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settings_for(task: Task, precision: Precision | None = None) -> LoadSettings:
    """Return how the engine loads such a folder, which it would hold for a ranker and for nothing else.

    :param task: "embed" or "rank".
    :param precision: as for `open_checkpoint`.
    :returns: the settings.
    """
    architecture = BloomForSequenceClassification if task == "rank" else BloomModel
    return LoadSettings(precision=precision, config_kwargs={"architectures": [architecture.__name__]})


class _EveryToken(nn.Linear):
    """A linear layer like any other; the engine takes its shortcut only where it knows the layer's exact kind."""


def switch_off_shortcut(model: PreTrainedModel, precision: Precision | None = None) -> None:
    """Have the engine compute the last layer for every token, as it computes the others.

    Else a model cut to 2 layers would save half its work where the whole one saves a 24th. The weights stay as they
    are, and so does the forward of Hugging Face.

    :param model: changed in place.
    :param precision: of its other linears.
    """
    attention = model.base_model.h[-1].self_attention
    attention.query_key_value = prepare_linear(attention.query_key_value, precision, fine=True)
    if type(attention.query_key_value) is nn.Linear:  # nothing is faster than plain here
        attention.query_key_value.__class__ = _EveryToken


def load_plain(folder: str, placement: Placement, task: Task) -> PreTrainedModel:
    """Load the weights once more, untouched by the engine: what the alternatives run on.

    :param folder: from `save_random_bloom`.
    :param placement: device and dtype of ours.
    :param task: "embed" or "rank".
    :returns: Hugging Face's own model.
    """
    architecture = BloomForSequenceClassification if task == "rank" else BloomModel
    model = architecture.from_pretrained(folder, dtype=placement.dtype)
    return model.to(placement.device).eval().requires_grad_(False)


def _word_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE, padded on the left as Bloom's, that knows every word with and without a space before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=20_000,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for word in FRENCH + ENGLISH for text in (word, " " + word)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **SPECIAL_TOKENS)
