"""Token vectors and idf -> a new cross-encoder that already ranks about as BM25 does, across two languages too.

Two heads; the second head's ALiBi slope is the flattest, 1/256. Three layers, and more before the last that add nothing
at first. What is written into the weights:

(1) Second head: tokens look for the begin-of-text mark, which tells them how far they stand from it, and for the
    separator, which tells the question's tokens what they are. First head (slope 1/16): each token averages the words
    before it, weighted by idf.
(2) Second head: each question token looks for its like, in word and in the words before it, among the passage's tokens,
    or at the separator. The share that falls on the passage is n / (n + k) for n matches: BM25's saturation.
(3) The last token averages, weighted by idf, what its question's tokens found.

ALiBi would make a match at the start of a passage count e^-0.6 of one at its end, 2.7 MRR on SQuAD before training:
the distance from the begin mark undoes it.
"""

import math
from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize, pad
from transformers import BloomConfig, BloomForSequenceClassification
from transformers.models.bloom.modeling_bloom import BloomBlock

from haystack_integrations.common.bloomz.tokens import TokenIds

SHARPNESS = 11.0  # score of a token with its like
SATURATION = 0.5  # BM25's k: the separator's weight beside that of one match
AROUND = 8.0  # score of two tokens with the same words before them
FOUND = 1.5  # of the averaged share in the last token's vector


class RankerCoordinate(IntEnum):
    """Coordinates of a token vector that do not hold content; an eighth of the width, for the words before, follows."""

    IDF = 0
    SEPARATOR = 1
    QUESTION = 2
    SHARE = 3  # of a question token's attention that falls on the passage, 0..4
    BEGIN = 4
    START = 5  # 4 at the begin mark, 2 some 200 tokens on; of the last token, in the end: the averaged share


def new_ranker(
    shape: dict[str, int],
    token_vectors: torch.Tensor,
    log_idf: npt.NDArray[np.float64],
    marks: tuple[int, int],
    seed: int,
) -> BloomForSequenceClassification:
    """Return a cross-encoder that counts the question's words found in the passage.

    :param shape: `vocab_size`, `hidden_size`, `n_layer` (3, or more: silent at first), `n_head` (2).
    :param token_vectors: (V, H') of a trained retriever of the same vocabulary; reduced to the free coordinates.
    :param log_idf: (V,) natural logarithm of each token's inverse document frequency.
    :param marks: the tokens that begin a pair and that separate passage and question.
    :param seed: of what is random.
    :returns: a model in float32 whose LABEL_1 means relevant.
    :raises ValueError: for another number of layers or heads.
    """
    if shape["n_layer"] < 3 or shape["n_head"] != 2:
        raise ValueError(f"a new ranker has n_layer >= 3 and n_head 2, but got {shape}: see new_ranker.py")
    torch.manual_seed(seed)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    model = BloomForSequenceClassification(BloomConfig(**shape, **special, num_labels=2, use_cache=False))
    body, spread = model.transformer, float(log_idf.std())
    with torch.no_grad():
        body.word_embeddings.weight.copy_(_token_vectors(shape, token_vectors, log_idf, marks))
        for layer in body.h[2:-1]:
            layer.self_attention.dense.weight.zero_()
            layer.mlp.dense_4h_to_h.weight.zero_()
        (local, marks_head), (_, like), (_, last) = (
            [_Head(layer, head) for head in range(2)] for layer in (*body.h[:2], body.h[-1])
        )
        _find_marks(marks_head)
        _average_before(local, spread)
        _find_like(like, _likeness(shape))
        _average_shares(last, spread)
        for layer in body.h:
            layer.mlp.dense_4h_to_h.weight.mul_(0.1)  # nearly silent at first
        model.score.weight.zero_()
        model.score.weight[1, RankerCoordinate.START], model.score.weight[0, RankerCoordinate.START] = 2.0, -2.0
        body.ln_f.bias[RankerCoordinate.START] = -3.2  # about half of the words found: undecided
    return model


def log_idf(passages: Iterable[TokenIds], vocabulary: int) -> npt.NDArray[np.float64]:
    """Return the logarithm of each token's inverse document frequency, ln(ln((n + 1) / (df + 0.5)) + 0.1).

    :param passages: token ids of n passages.
    :param vocabulary: V.
    :returns: (V,) float64.
    """
    frequency, total = np.zeros(vocabulary), 0
    for ids in passages:
        frequency[np.unique(ids)] += 1
        total += 1
    return np.log(np.log((total + 1) / (frequency + 0.5)).clip(min=0) + 0.1)


class _Head:
    """Views of one head's weights. Row 0 of query and key holds scores that do not depend on who looks."""

    def __init__(self, layer: BloomBlock, head: int) -> None:
        attention, shape = layer.self_attention, (layer.num_heads, 3, layer.self_attention.head_dim)
        fused = attention.query_key_value.weight.unflatten(0, shape)[head].normal_(std=0.002)
        self.query, self.key, self.value = fused  # (D, H) each
        self.query_bias, _, self.value_bias = attention.query_key_value.bias.unflatten(0, shape)[head]  # (D,) each
        self.out = attention.dense.weight.unflatten(1, (layer.num_heads, -1))[:, head].normal_(std=0.002)  # (H, D)
        self.width, self.root = len(self.query[0]), math.sqrt(len(self.query[0]))  # of a mark's coordinate
        self.scale = math.sqrt(len(self.query))  # undoes the 1/sqrt(D) of the scores
        self.query_bias[0] = self.scale


def _before(width: int) -> slice:
    """Coordinates that hold the words before a token."""
    return slice(len(RankerCoordinate), len(RankerCoordinate) + width // 8)


def _likeness(shape: dict[str, int]) -> int:
    """Coordinates of content by which a head finds like tokens; one of its rows holds other scores."""
    width, sketch = shape["hidden_size"], shape["hidden_size"] // 8
    return min(width // shape["n_head"] - 1 - sketch, width - _before(width).stop)


def _token_vectors(
    shape: dict[str, int], given: torch.Tensor, log_idf: npt.NDArray[np.float64], marks: tuple[int, int]
) -> torch.Tensor:
    width = shape["hidden_size"]
    vectors, content = torch.zeros(shape["vocab_size"], width), _before(width).stop
    found = content + _likeness(shape)
    # Each part of its own length: a token whose likeness were shorter than another's would match itself less well.
    directions = _reduced(given, width - content)
    vectors[:, content:found] = normalize(directions[:, : found - content]) * math.sqrt(0.75 * width)
    vectors[:, found:] = normalize(directions[:, found - content :]) * math.sqrt(0.25 * width)
    vectors[:, RankerCoordinate.IDF] = torch.from_numpy((log_idf - log_idf.mean()) / log_idf.std())
    for mark, place in zip(marks, (RankerCoordinate.BEGIN, RankerCoordinate.SEPARATOR), strict=True):
        vectors[mark] = 0
        vectors[mark, place] = math.sqrt(width)
    return vectors


def _reduced(vectors: torch.Tensor, dimensions: int) -> torch.Tensor:
    """The directions of most variance, largest first; zeros where there are fewer."""
    centred = normalize(vectors.float() - vectors.float().mean(0), dim=-1)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    kept = centred @ directions[:, -dimensions:].flip(1)
    return pad(kept, (0, dimensions - kept.shape[1]))


def _find_marks(head: _Head) -> None:
    """START at passage tokens, QUESTION = 4 at the question's; neither at the separator."""
    head.key[0, RankerCoordinate.BEGIN] = 5.3 / head.root  # e^5.3 = 200 tokens
    head.key[0, RankerCoordinate.SEPARATOR] = 14.0 / head.root
    head.query[1, RankerCoordinate.SEPARATOR] = -30.0 * head.scale / head.root
    head.key[1, [RankerCoordinate.SEPARATOR, RankerCoordinate.BEGIN]] = 1 / head.root
    head.value[0, RankerCoordinate.SEPARATOR] = head.value[1, RankerCoordinate.BEGIN] = 4 / head.root
    head.out[RankerCoordinate.QUESTION, 0] = head.out[RankerCoordinate.START, 1] = 1.0


def _average_before(head: _Head, spread: float) -> None:
    """Average the words before a token, but not itself, into their own coordinates, as a random sketch."""
    head.key[0, RankerCoordinate.IDF] = spread
    head.key[0, RankerCoordinate.SEPARATOR] = (
        -20.0 / head.root
    )  # not the begin mark: the first word has no other before it
    content, sketch = _before(head.width).stop, head.width // 8
    same = torch.arange(min(48, len(head.query) - 2))
    head.query[2 + same, content + same] = -6.0 * head.scale / 80
    head.key[2 + same, content + same] = 1.0
    free = head.width - content
    head.value[:sketch, content:] = torch.randn(sketch, free) / math.sqrt(free)
    head.out[_before(head.width), :sketch] = 2.0 * torch.eye(sketch)


def _find_like(head: _Head, coordinates: int) -> None:
    """SHARE of a question token's attention that falls on the passage, by content and by the words before."""
    before, sketch = _before(head.width), head.width // 8
    like = torch.arange(coordinates)
    head.query[1 + like, before.stop + like] += SHARPNESS * head.scale / (0.75 * head.width)
    head.key[1 + like, before.stop + like] += 1.0
    rows = slice(1 + len(like), 1 + len(like) + sketch)
    head.query[rows, before] = torch.eye(sketch) * AROUND * head.scale / sketch / 4  # 4: the sketch has gain 2, twice
    head.key[rows, before] = torch.eye(sketch)
    head.key[0, RankerCoordinate.QUESTION] = -6.0  # no question token is found, itself included
    head.key[0, RankerCoordinate.BEGIN] = -30.0 / head.root
    # 0.9: the marks lengthen a vector, which the layer norm shortens; 0.7: what START gives to an average token
    head.key[0, RankerCoordinate.SEPARATOR] = (0.9 * SHARPNESS + math.log(SATURATION) + 0.7) / head.root
    head.key[0, RankerCoordinate.START] = 1.5 / 4  # undoes ALiBi
    head.value_bias[0] = 4.0
    head.value[0, RankerCoordinate.SEPARATOR] = -4.0 / head.root
    head.out[RankerCoordinate.SHARE, 0] = 1.0


def _average_shares(head: _Head, spread: float) -> None:
    """Average SHARE over question tokens, weighted by idf^1.2."""
    head.key[0, RankerCoordinate.IDF] = 1.2 * spread
    head.key[0, RankerCoordinate.QUESTION] = 3.0
    head.value[0, RankerCoordinate.SHARE] = 1.0
    head.out[RankerCoordinate.START, 0] = FOUND
