"""A bag of token vectors -> a Bloom of two layers that computes it.

(1) Each token looks for its like, itself included, and for the start of the text, the token that the tokenizer writes
before it. The share that falls on the start is its novelty: 1/2 for a token that is new, less for each repeat.
(2) The last token averages all tokens, weighted by exp(log weight + gain x novelty).

One wide head: its ALiBi slope is 1/256, nearly flat over a passage. Bloom's layer norms take the length of a token
vector away, so its weight stands in coordinates of its own.
"""

import math
from enum import IntEnum

import torch
from torch import nn
from transformers import BloomConfig, BloomModel
from transformers.models.bloom.modeling_bloom import BloomBlock

LIKE_SCORE = 40.0  # of a token with its like and with the start; e^40 leaves nothing to others, even to near synonyms
IGNORED_SCORE = -60.0  # of the start, in the average
OUTPUT_GAIN = 512.0  # of the average over the last token's own vector, which the residual adds
VALUE_GAIN = 16.0  # part of it: both stay exact in float8
MOST_WEIGHT = 6.0  # logarithmic, in either direction: further out, a token is all of a text or nothing


class BagCoordinate(IntEnum):
    """Coordinates of a token vector that hold no content; in pairs of opposite sign, which keep the mean at zero."""

    WEIGHT = 0
    MINUS_WEIGHT = 1
    START = 2
    MINUS_START = 3
    NOVELTY = 4


RESERVED = len(BagCoordinate)
CONTENT = slice(RESERVED, None)


def write_bloom(
    shape: dict[str, int], vectors: torch.Tensor, log_weights: torch.Tensor, novelty_gain: float
) -> BloomModel:
    """Return the Bloom that computes a bag.

    :param shape: `vocab_size`, `hidden_size`, `n_layer` 2, `n_head` 1.
    :param vectors: (V, H - RESERVED), of any length: it adds to the weight.
    :param log_weights: (V,) natural logarithms.
    :param novelty_gain: of the novelty in a token's logarithmic weight.
    :returns: a model in float32, ready to train.
    """
    model = BloomModel(BloomConfig(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=3, use_cache=False))
    with torch.no_grad():
        for layer in model.h:
            for matrix in (layer.self_attention.query_key_value, layer.self_attention.dense, layer.mlp.dense_4h_to_h):
                matrix.weight.zero_()
        rows = _token_rows(vectors.detach(), log_weights.detach())
        rows[model.config.bos_token_id] = _start_row(shape["hidden_size"])
        model.word_embeddings.weight.copy_(rows)
        _find_novelty(model.h[0])
        _average(model.h[1], novelty_gain)
    return model


def read_bloom(model: BloomModel, novelty_gain: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bag that a Bloom was written from.

    :param model: from `write_bloom`, saved and loaded in any precision.
    :param novelty_gain: that it was written with.
    :returns: (V, H - RESERVED) vectors and (V,) logarithmic weights, in float32.
    :raises ValueError: if its layers are not those of a bag.
    """
    shape = {name: getattr(model.config, name) for name in ("vocab_size", "hidden_size", "n_layer", "n_head")}
    with torch.no_grad():
        rows = model.word_embeddings_layernorm(model.word_embeddings.weight.float())
    vectors, weights = rows[:, CONTENT], (rows[:, BagCoordinate.WEIGHT] - rows[:, BagCoordinate.MINUS_WEIGHT]) / 2
    found = dict(model.named_parameters())
    if (shape["n_layer"], shape["n_head"]) == (2, 1):
        written = write_bloom(shape, vectors, weights, novelty_gain).named_parameters()
        silent = "word_embeddings.weight", "dense_h_to_4h.weight"  # what follows the second is zero
        if all(
            torch.allclose(found[name].float(), weight, rtol=0.04)
            for name, weight in written
            if not name.endswith(silent)
        ):
            return vectors, weights
    raise ValueError(f"a bag is read from a Bloom that was written from one (bag_to_bloom.py), but got {shape}")


def _token_rows(vectors: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
    """(V, H) of mean 0 and variance 1, as the layer norms would make them."""
    hidden = vectors.shape[1] + RESERVED
    centred = vectors - vectors.mean(1, keepdim=True)
    lengths = centred.norm(dim=1).clamp(min=1e-3)  # the start of a text has none
    wanted = log_weights + lengths.log()
    weight = wanted - wanted.mean()
    most = min(MOST_WEIGHT, math.sqrt(hidden) / 2)  # half of a row at least is content
    for _ in range(4):  # the more a weight takes of the row, the shorter its content: converges at once
        weight = wanted - torch.log(hidden - 2 * weight.clamp(-most, most) ** 2) / 2
        weight = (weight - weight.mean()).clamp(-most, most)
    rows = torch.zeros(len(vectors), hidden)
    rows[:, CONTENT] = centred * (torch.sqrt(hidden - 2 * weight**2) / lengths)[:, None]
    rows[:, BagCoordinate.WEIGHT], rows[:, BagCoordinate.MINUS_WEIGHT] = weight, -weight
    return rows


def _start_row(hidden: int) -> torch.Tensor:
    row = torch.zeros(hidden)
    row[BagCoordinate.START], row[BagCoordinate.MINUS_START] = math.sqrt(hidden / 2), -math.sqrt(hidden / 2)
    return row


def _qkv(layer: BloomBlock) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views of the one head's query, key and value weights, (H, H) each, and of the query's bias, (H,)."""
    projection: nn.Linear = layer.self_attention.query_key_value
    query, key, value = projection.weight.view(3, -1, projection.in_features).unbind(0)
    return query, key, value, projection.bias.view(3, -1)[0]


def _find_novelty(layer: BloomBlock) -> None:
    query, key, value, bias = _qkv(layer)
    hidden = len(key)
    # Of a token with its like: gain x H / sqrt(H). The gain must be a number that float8 has, or the two scores differ.
    gain = float(torch.tensor(LIKE_SCORE / math.sqrt(hidden)).to(torch.float8_e4m3fn))
    query.copy_(gain * torch.eye(hidden))
    key.copy_(torch.eye(hidden))
    score = gain * math.sqrt(hidden)
    bias[BagCoordinate.START], bias[BagCoordinate.MINUS_START] = score / math.sqrt(2), -score / math.sqrt(2)
    value[0, BagCoordinate.START], value[0, BagCoordinate.MINUS_START] = (
        1.0,
        -1.0,
    )  # sqrt(2 H) at the start, 0 elsewhere
    layer.self_attention.dense.weight[BagCoordinate.NOVELTY, 0] = 1 / math.sqrt(2 * hidden)


def _average(layer: BloomBlock, novelty_gain: float) -> None:
    _, key, value, bias = _qkv(layer)
    hidden = len(key)
    bias[0] = math.sqrt(hidden)  # undoes the 1/sqrt(D) of the scores
    key[0, BagCoordinate.WEIGHT], key[0, BagCoordinate.MINUS_WEIGHT] = 0.5, -0.5
    key[0, BagCoordinate.NOVELTY] = novelty_gain
    key[0, BagCoordinate.START], key[0, BagCoordinate.MINUS_START] = (
        IGNORED_SCORE / math.sqrt(2 * hidden),
        -IGNORED_SCORE / math.sqrt(2 * hidden),
    )
    content = torch.eye(hidden)
    content[:RESERVED] = 0
    value.copy_(content * VALUE_GAIN)
    layer.self_attention.dense.weight.copy_(torch.eye(hidden) * (OUTPUT_GAIN / VALUE_GAIN))
