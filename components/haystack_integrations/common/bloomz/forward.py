"""Packed batch -> hidden states of a Hugging Face `BloomModel`, computed without padding and without a cache.

The fast path calls the model's own modules: plain linears in training, where gradients flow, packed ones in inference
(`linear`). The pieces of a layer stand alone, for whoever attends otherwise. The plain path, Hugging Face one text at
a time, stands at the end of the file. Dropout is not applied: the published checkpoints have none. Knows nothing of
text or of Haystack.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from haystack_integrations.common.bloomz.attention import alibi_slopes, packed_attention
from haystack_integrations.common.bloomz.bloom import BloomBody, BloomLayer
from haystack_integrations.common.bloomz.linear import linear_add, mlp_add
from haystack_integrations.common.bloomz.packing import PackedBatch

# Of what follows attention, on a CPU: what lies between two products stays in the core's cache, a fifth faster in int8.
ROWS_AT_ONCE = 256


def last_hidden_states(model: BloomBody, batch: PackedBatch) -> torch.Tensor:
    """Return the final hidden state of each text's last token.

    :param model: weights, on the device of the batch.
    :param batch: B packed texts.
    :returns: (B, H) in the model's dtype, after the final layer norm.
    """
    slopes = alibi_slopes(model.config.n_head, batch.input_ids.device)
    hidden = embed(model, batch)
    for layer in model.h[:-1]:
        if layer.gradient_checkpointing and torch.is_grad_enabled():  # training in little memory
            hidden = checkpoint(_layer, layer, hidden, batch, slopes, use_reentrant=False, preserve_rng_state=False)
        else:
            hidden = _layer(layer, hidden, batch, slopes)
    if takes_shortcut(model):
        return model.ln_f(last_layer(model.h[-1], hidden, batch, slopes))
    # Adapters and quantised layers hide their weight: compute every token, then keep the last ones.
    return model.ln_f(_layer(model.h[-1], hidden, batch, slopes)[batch.cu_seqlens[1:].long() - 1])


def all_hidden_states(model: BloomBody, batch: PackedBatch) -> torch.Tensor:
    """Return the final hidden state of every token: what `BloomModel` calls `last_hidden_state`.

    :param model: weights, on the device of the batch.
    :param batch: B packed texts of T tokens.
    :returns: (T, H) in the model's dtype, after the final layer norm.
    """
    slopes = alibi_slopes(model.config.n_head, batch.input_ids.device)
    hidden = embed(model, batch)
    for layer in model.h:
        hidden = _layer(layer, hidden, batch, slopes)
    return model.ln_f(hidden)


def takes_shortcut(model: BloomBody) -> bool:
    """Whether the last layer is computed for the last tokens only: where its projection shows its weight.

    :param model: weights.
    :returns: False for adapters, quantised and packed layers.
    """
    return type(model.h[-1].self_attention.query_key_value) is nn.Linear


def embed(model: BloomBody, batch: PackedBatch) -> torch.Tensor:
    """Look the tokens up.

    :param model: weights.
    :param batch: packed texts of T tokens.
    :returns: (T, H), what enters the first layer.
    """
    return model.word_embeddings_layernorm(model.word_embeddings(batch.input_ids))


def project(layer: BloomLayer, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what comes before attention in a layer.

    :param layer: weights.
    :param hidden: (T, H), what enters the layer.
    :returns: the normed input (T, H); queries, keys and values (T, N, 3, D): Bloom interleaves them per head.
    """
    normed = layer.input_layernorm(hidden)
    return normed, layer.self_attention.query_key_value(normed).unflatten(-1, (layer.num_heads, 3, -1))


def value_bias(layer: BloomLayer) -> torch.Tensor:
    """Return what every value of a layer has in common: attention passes it on, since its weights sum to one.

    :param layer: weights.
    :returns: (N, D).
    """
    return layer.self_attention.query_key_value.bias.unflatten(0, (layer.num_heads, 3, -1))[:, 2]


def after_attention(
    layer: BloomLayer, hidden: torch.Tensor, normed: torch.Tensor, attended: torch.Tensor
) -> torch.Tensor:
    """Do what comes after attention in a layer.

    :param layer: weights.
    :param hidden: (T, H), what entered the layer.
    :param normed: (T, H), from `project`.
    :param attended: (T, N, D), what attention gave.
    :returns: (T, H), what enters the next layer.
    """
    if torch.is_grad_enabled() or hidden.device.type != "cpu" or len(hidden) <= ROWS_AT_ONCE:
        return _after_attention(layer, hidden, normed, attended)
    parts = zip(*(rows.split(ROWS_AT_ONCE) for rows in (hidden, normed, attended)), strict=True)
    return torch.cat([_after_attention(layer, *part) for part in parts])


def _after_attention(
    layer: BloomLayer, hidden: torch.Tensor, normed: torch.Tensor, attended: torch.Tensor
) -> torch.Tensor:
    post_norm = layer.apply_residual_connection_post_layernorm
    hidden = linear_add(layer.self_attention.dense, attended.flatten(1), normed if post_norm else hidden)
    normed = layer.post_attention_layernorm(hidden)
    return mlp_add(layer.mlp, normed, normed if post_norm else hidden)


def _layer(layer: BloomLayer, hidden: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    normed, fused = project(layer, hidden)
    return after_attention(layer, hidden, normed, packed_attention(fused, batch, slopes))


def last_layer(layer: BloomLayer, hidden: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Run the last layer for the last tokens only.

    One query a text lets the key and value projections move out of the sum over tokens: q.(W x) = (W'q).x, and the
    mean of V x is V times the mean of x. No token but the last is multiplied by a matrix (exact, up to rounding).

    :param layer: weights, the projection a plain `nn.Linear`.
    :param hidden: (T, H), what enters the layer.
    :param batch: B packed texts of T tokens.
    :param slopes: (N,) float32.
    :returns: (B, H).
    """
    last = batch.cu_seqlens[1:].long() - 1
    normed = layer.input_layernorm(hidden)  # (T, H)
    pooled = _pool(normed, absorbed_queries(layer, normed[last]), batch, slopes)
    return after_pooling(layer, hidden[last], normed[last], pooled)


def absorbed_queries(layer: BloomLayer, normed: torch.Tensor) -> torch.Tensor:
    """Multiply queries by the weights of the keys, so that they meet tokens instead of keys.

    :param layer: weights, the projection a plain `nn.Linear`.
    :param normed: (B, H), last tokens after the layer's first norm.
    :returns: (B, N, H), scaled.
    """
    projection = layer.self_attention.query_key_value
    key_weight = projection.weight.unflatten(0, (layer.num_heads, 3, -1))[:, 1]  # (N, D, H); the bias is constant
    query = projection(normed).unflatten(-1, (layer.num_heads, 3, -1))[:, :, 0]  # (B, N, D)
    return torch.einsum("bnd,ndh->bnh", query, key_weight) / math.sqrt(query.shape[-1])


def after_pooling(layer: BloomLayer, hidden: torch.Tensor, normed: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """Finish the last layer.

    :param layer: weights, the projection a plain `nn.Linear`.
    :param hidden: (B, H), last tokens, what entered the layer.
    :param normed: (B, H), the same after the layer's first norm.
    :param pooled: (B, N, H), normed tokens averaged as each head's attention weighs them.
    :returns: (B, H).
    """
    projection = layer.self_attention.query_key_value
    value_weight = projection.weight.unflatten(0, (layer.num_heads, 3, -1))[:, 2]  # (N, D, H)
    attended = torch.einsum("bnh,ndh->bnd", pooled, value_weight) + value_bias(layer)
    return after_attention(layer, hidden, normed, attended)


def _pool(normed: torch.Tensor, absorbed: torch.Tensor, batch: PackedBatch, slopes: torch.Tensor) -> torch.Tensor:
    """Average the tokens of each text, weighted by softmax(absorbed query . token + ALiBi)."""
    pooled = []
    counts, tokens = [run.count for run in batch.runs], [run.tokens for run in batch.runs]
    for run, rows, queries in zip(batch.runs, normed.split(tokens), absorbed.split(counts), strict=True):
        rows = rows.unflatten(0, run)  # (count, L, H)
        place = torch.arange(run.length, device=rows.device, dtype=torch.float32) - (run.length - 1)
        scores = torch.baddbmm(slopes[:, None] * place, queries.float(), rows.float().transpose(1, 2))  # (count, N, L)
        pooled.append(scores.softmax(-1).to(rows.dtype) @ rows)
    return torch.cat(pooled)


def reference_last_hidden_states(model: BloomBody, token_ids: Sequence[npt.NDArray[np.int64]]) -> torch.Tensor:
    """Do the same the plain way: Hugging Face's own forward, one text at a time.

    :param model: weights.
    :param token_ids: B arrays of token ids.
    :returns: (B, H), what `last_hidden_states` must equal.
    """
    device = model.word_embeddings.weight.device
    rows = [torch.from_numpy(ids)[None].to(device) for ids in token_ids]
    return torch.cat([model(input_ids=row, use_cache=False).last_hidden_state[:, -1] for row in rows])
