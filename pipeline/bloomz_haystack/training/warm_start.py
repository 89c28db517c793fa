"""Shape -> a new ``BloomModel`` that already ranks by weighted word overlap, before the first step.

Random weights in a shallow Bloom give noise. With one wide head the slope of ALiBi is 1/256, nearly flat over a passage,
so the last token can average all tokens. This start makes it do so: one coordinate of a token's vector holds its
standardised log idf and alone decides the attention, values and output pass the rest through, the MLP adds almost
nothing. Measured with random token vectors: MRR 60 / 54 / 11 on squad2-dev-en, piaf-dev and squad-fr-slice FR->EN.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import BloomConfig, BloomModel

IDF_COORDINATE = 0
OUTPUT_GAIN = 30.0  # of the averaged passage over the last token's own vector, which the residual adds


def new_model(shape: dict[str, int], log_idf: npt.NDArray[np.float64], seed: int) -> BloomModel:
    """Build the model.

    :param shape: ``vocab_size``, ``hidden_size``, ``n_layer``, ``n_head``.
    :param log_idf: (V,) natural logarithm of each token's inverse document frequency.
    :param seed: of the random token vectors.
    :returns: a model in float32, ready to train.
    """
    torch.manual_seed(seed)
    config = BloomConfig(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=3, use_cache=False)
    model = BloomModel(config)
    spread = float(log_idf.std())
    with torch.no_grad():
        vectors = torch.randn(config.vocab_size, config.hidden_size)
        vectors[:, IDF_COORDINATE] = torch.from_numpy((log_idf - log_idf.mean()) / spread).float()
        model.word_embeddings.weight.copy_(vectors)
        _average_by_idf(model.h[-1], spread)
        for layer in model.h:
            layer.mlp.dense_4h_to_h.weight.mul_(0.1)
    return model


def _average_by_idf(layer: nn.Module, spread: float) -> None:
    """Attend with weight idf, pass values through."""
    heads, hidden = layer.num_heads, layer.hidden_size if hasattr(layer, "hidden_size") else layer.input_layernorm.weight.numel()
    head_dim = hidden // heads
    weight = layer.self_attention.query_key_value.weight.view(heads, 3, head_dim, hidden)
    bias = layer.self_attention.query_key_value.bias.view(heads, 3, head_dim)
    weight[:, 0].normal_(std=0.002)
    weight[:, 1].normal_(std=0.02)
    weight[:, 1, 0, IDF_COORDINATE] = 1.0
    bias[:, 0, 0] = spread * math.sqrt(head_dim)  # undoes the 1/sqrt(D) of the scores
    identity = torch.eye(hidden)
    identity[IDF_COORDINATE] = 0
    weight[:, 2] = identity.view(heads, head_dim, hidden)
    layer.self_attention.dense.weight.copy_(torch.eye(hidden) * OUTPUT_GAIN)
