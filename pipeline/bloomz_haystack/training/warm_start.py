"""Shape -> a new Bloom ranker that already ranks before the first step.

Random weights in a shallow Bloom give noise, and a CPU has no time to learn attention from nothing. So it starts as a
ranking function written into the weights, which training then improves; a new retriever starts as another one
(``bag_to_bloom.py``). One wide head: its ALiBi slope is 1/256, nearly flat over a passage.

Three layers: (1) every token looks for the separator, so that question tokens know what they are; (2) each
question token looks for its like among the context tokens, or at the separator when there is none; (3) the last token
averages, weighted by idf, how many found one. That is a soft, idf-weighted count of matched question words.
"""

import math
from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import BloomConfig, BloomForSequenceClassification, BloomModel
from transformers.models.bloom.modeling_bloom import BloomBlock

from haystack_integrations.common.bloomz.tokens import TokenIds

MATCH_SHARPNESS = 12.0  # score of a token with its like: e^12 against about 200 unlike tokens at e^0
MISS_SCORE = 8.0  # score of the separator, where a token without its like looks


class Coordinate(IntEnum):
    """Coordinates of a token vector that do not hold content."""

    IDF = 0
    SEPARATOR = 1
    QUESTION = 2
    MATCH = 3


def new_ranker(
    shape: dict[str, int],
    token_vectors: torch.Tensor,
    log_idf: npt.NDArray[np.float64],
    separator: int,
    seed: int,
) -> BloomForSequenceClassification:
    """Build a cross-encoder that counts the question's words found in the context, weighted by idf.

    :param shape: ``vocab_size``, ``hidden_size``, ``n_layer`` (3), ``n_head`` (1).
    :param token_vectors: (V, H') of a trained retriever of the same vocabulary; reduced to the free coordinates.
    :param log_idf: (V,) natural logarithm of each token's inverse document frequency.
    :param separator: the token between context and question.
    :param seed: of what is random.
    :returns: a model in float32 whose LABEL_1 means relevant.
    :raises ValueError: for another number of layers or heads.
    """
    if (shape["n_layer"], shape["n_head"]) != (3, 1):
        raise ValueError(f"a new ranker has n_layer 3 and n_head 1, but got {shape}: see warm_start.py")
    torch.manual_seed(seed)
    model = BloomForSequenceClassification(_config(shape, num_labels=2))
    body, free = model.transformer, shape["hidden_size"] - len(Coordinate)
    with torch.no_grad():
        vectors = torch.zeros(shape["vocab_size"], shape["hidden_size"])
        vectors[:, len(Coordinate) :] = _reduced(token_vectors, free)
        vectors[:, Coordinate.IDF] = _standardised(log_idf)
        vectors[separator] = 0
        vectors[separator, Coordinate.SEPARATOR] = math.sqrt(shape["hidden_size"])
        body.word_embeddings.weight.copy_(vectors)
        _find_separator(body.h[0])
        _find_like(body.h[1])
        _average_matches(body.h[2], float(log_idf.std()))
        _quieten(body)
        model.score.weight.zero_()
        model.score.weight[1, Coordinate.MATCH] = 2.0
        model.score.weight[0, Coordinate.MATCH] = -2.0
        body.ln_f.bias[Coordinate.MATCH] = -7.0  # about half of the words found: undecided
    return model


def log_idf(passages: Iterable[TokenIds], vocabulary: int) -> npt.NDArray[np.float64]:
    """Logarithm of each token's inverse document frequency, ln(ln((n + 1) / (df + 0.5)) + 0.1).

    :param passages: token ids of n passages.
    :param vocabulary: V.
    :returns: (V,) float64.
    """
    frequency, total = np.zeros(vocabulary), 0
    for ids in passages:
        frequency[np.unique(ids)] += 1
        total += 1
    return np.log(np.log((total + 1) / (frequency + 0.5)).clip(min=0) + 0.1)


def _config(shape: dict[str, int], **more: int) -> BloomConfig:
    return BloomConfig(**shape, **more, bos_token_id=1, eos_token_id=2, pad_token_id=3, use_cache=False)


def _standardised(values: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy((values - values.mean()) / values.std()).float()


def _reduced(vectors: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Keep the directions of most variance, each token's vector scaled to length sqrt(dimensions)."""
    centred = nn.functional.normalize(vectors.float() - vectors.float().mean(0), dim=-1)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    kept = centred @ directions[:, -dimensions:]
    return nn.functional.normalize(kept, dim=-1) * math.sqrt(dimensions)


def _quieten(body: BloomModel) -> None:
    for layer in body.h:
        layer.mlp.dense_4h_to_h.weight.mul_(0.1)


def _qkv(layer: BloomBlock) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views of the one head's query, key, value weights (3 x (H, H)), made nearly zero; the biases are zero."""
    projection = layer.self_attention.query_key_value
    query, key, value = projection.weight.view(3, -1, projection.in_features).unbind(0)
    for weight in (query, key, value):
        weight.normal_(std=0.002)
    return query, key, value


def _query_bias(layer: BloomBlock) -> torch.Tensor:
    return layer.self_attention.query_key_value.bias.view(3, -1)[0]


def _content(hidden: int) -> torch.Tensor:
    content = torch.eye(hidden)
    content[: len(Coordinate)] = 0
    return content


def _find_separator(layer: BloomBlock) -> None:
    """Question tokens, which alone come after the separator, get QUESTION = about 4."""
    _, key, value = _qkv(layer)
    hidden = len(key)
    key[0, Coordinate.SEPARATOR] = 1.0  # about sqrt(H) at the separator, 0 elsewhere
    _query_bias(layer)[0] = 12.0  # times sqrt(H) / sqrt(D): score 12
    value[0, Coordinate.SEPARATOR] = 4 / math.sqrt(hidden)
    layer.self_attention.dense.weight.normal_(std=0.002)
    layer.self_attention.dense.weight[Coordinate.QUESTION, 0] = 1.0


def _find_like(layer: BloomBlock) -> None:
    """MATCH = share of a question token's attention that falls on context tokens."""
    query, key, value = _qkv(layer)
    hidden = len(key)
    root = math.sqrt(hidden)
    content = _content(hidden)
    query.add_(content * MATCH_SHARPNESS / root)  # content . content is H: score MATCH_SHARPNESS
    key.add_(content)
    bias = _query_bias(layer)
    bias[0] = 1.0
    # No question token is found, itself included; the separator, which carries the mark too (4), makes up for it.
    key[0, Coordinate.QUESTION] = -5.0 * root
    key[0, Coordinate.SEPARATOR] = MISS_SCORE + 5.0 * 4
    value_bias = layer.self_attention.query_key_value.bias.view(3, -1)[2]
    value_bias[0] = 4.0
    value[0, Coordinate.SEPARATOR] = -4.0 / root
    layer.self_attention.dense.weight.normal_(std=0.002)
    layer.self_attention.dense.weight[Coordinate.MATCH, 0] = 1.0


def _average_matches(layer: BloomBlock, spread: float) -> None:
    """Average MATCH over question tokens, weighted by idf."""
    _, key, value = _qkv(layer)
    root = math.sqrt(len(key))
    key[0, Coordinate.IDF] = spread
    key[0, Coordinate.QUESTION] = 3.0
    _query_bias(layer)[0] = root
    value[0, Coordinate.MATCH] = 1.0
    layer.self_attention.dense.weight.normal_(std=0.002)
    layer.self_attention.dense.weight[Coordinate.MATCH, 0] = 2.0
