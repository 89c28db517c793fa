"""Packed forward that keeps what its contexts gave, and the forward of questions that starts from what was kept.

Attention is causal and the context comes first, so the states of its tokens do not depend on the question: the second
forward computes the question's tokens only, those of all candidates as one packed batch, and each attends to the keys
and values of its own context. Both equal `last_hidden_states` on the joined tokens. Knows no texts and no budget.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from haystack_integrations.common.bloomz.attention import alibi_slopes, packed_attention
from haystack_integrations.common.bloomz.bloom import BloomBody, BloomLayer
from haystack_integrations.common.bloomz.forward import (
    absorbed_queries,
    after_attention,
    after_pooling,
    embed,
    last_layer,
    project,
    takes_shortcut,
    value_bias,
)
from haystack_integrations.common.bloomz.packing import PackedBatch
from haystack_integrations.common.bloomz.prefix_cache.states import PrefixShape, PrefixStates, StoreDtype


def prefix_shape(model: BloomBody, store_dtype: StoreDtype) -> PrefixShape:
    """Return what is kept of a context.

    :param model: weights.
    :param store_dtype: of the numbers.
    :returns: the sizes; where the forward takes its shortcut, the last layer keeps its input alone.
    """
    heads, width, shortcut = model.config.n_head, model.config.hidden_size, takes_shortcut(model)
    return PrefixShape(heads, width // heads, len(model.h) - shortcut, width if shortcut else 0, store_dtype)


def states_keeping_prefixes(model: BloomBody, batch: PackedBatch, made: Sequence[PrefixStates | None]) -> torch.Tensor:
    """Return what `last_hidden_states` gives, and write down the first tokens of each text on the way.

    :param model: weights, on the device of the batch.
    :param batch: B packed texts.
    :param made: B states to be written, of at most the text's tokens; None keeps nothing of a text.
    :returns: (B, H) in the model's dtype, after the final layer norm.
    """
    slopes = alibi_slopes(model.config.n_head, batch.input_ids.device)
    starts = batch.cu_seqlens.tolist()
    kept = [(slice(start, start + states.tokens), states) for start, states in zip(starts, made) if states]  # noqa: B905
    layers, hidden = _whole_layers(model), embed(model, batch)
    for number, layer in enumerate(layers):
        normed, fused = project(layer, hidden)
        for rows, states in kept:
            # Without the bias of the values, whose large constants would cost float16 its digits (8 times the error).
            states.write_layer(number, fused[rows, :, 1], fused[rows, :, 2] - value_bias(layer))
        hidden = after_attention(layer, hidden, normed, packed_attention(fused, batch, slopes))
    last = batch.cu_seqlens[1:].long() - 1
    if len(layers) == len(model.h):
        return model.ln_f(hidden[last])
    normed = model.h[-1].input_layernorm(hidden)
    for rows, states in kept:
        states.write_last(normed[rows])
    return model.ln_f(last_layer(model.h[-1], hidden, batch, slopes))


def states_after_prefixes(
    model: BloomBody, batch: PackedBatch, prefixes: Sequence[PrefixStates], lengths: Sequence[int]
) -> torch.Tensor:
    """Return the last hidden states of texts whose beginnings are kept.

    :param model: weights, on the device of the batch.
    :param batch: B packed tails, what comes after each beginning.
    :param prefixes: B states.
    :param lengths: tokens of each that come before the tail; the rest of the states is left aside.
    :returns: (B, H) in the model's dtype, after the final layer norm.
    """
    reader = _PrefixReader(model, batch, prefixes, lengths)
    layers, hidden = _whole_layers(model), embed(model, batch)
    for number, layer in enumerate(layers):
        once = number == 0 and takes_shortcut(model)
        normed, fused = _project_each_token_once(layer, hidden, batch) if once else project(layer, hidden)
        hidden = after_attention(layer, hidden, normed, reader.attend(number, fused, value_bias(layer)))
    last = batch.cu_seqlens[1:].long() - 1
    if len(layers) == len(model.h):
        return model.ln_f(hidden[last])
    normed = model.h[-1].input_layernorm(hidden)
    pooled = reader.pool(normed, absorbed_queries(model.h[-1], normed[last]))
    return model.ln_f(after_pooling(model.h[-1], hidden[last], normed[last], pooled))


def _project_each_token_once(
    layer: BloomLayer, hidden: torch.Tensor, batch: PackedBatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do as `project` in the first layer, whose input depends on the token alone: all candidates share a question."""
    distinct, which = batch.input_ids.unique(return_inverse=True)
    place = torch.empty_like(distinct).scatter_(0, which, torch.arange(len(which), device=which.device))
    normed, fused = project(layer, hidden[place])
    return normed[which], fused[which]


def _whole_layers(model: BloomBody) -> Sequence[BloomLayer]:
    return model.h[:-1] if takes_shortcut(model) else model.h


class _PrefixReader:
    """Attention of each tail over its prefix and itself; one workspace for all stays in the processor's cache."""

    def __init__(
        self, model: BloomBody, batch: PackedBatch, prefixes: Sequence[PrefixStates], lengths: Sequence[int]
    ) -> None:
        self.prefixes, self.lengths = prefixes, lengths
        ends = batch.cu_seqlens.tolist()
        self.rows = [slice(start, end) for start, end in pairwise(ends)]
        self.slopes = alibi_slopes(model.config.n_head, batch.input_ids.device)
        self.longest = max(lengths)
        self.width = model.config.hidden_size
        tokens = max(length + rows.stop - rows.start for length, rows in zip(lengths, self.rows, strict=True))
        self.workspace = torch.empty(tokens * self.width, device=batch.input_ids.device)
        self.biases = {run.length: relative_bias(self.slopes, self.longest, run.length) for run in batch.runs}

    def attend(self, layer: int, fused: torch.Tensor, value_bias: torch.Tensor) -> torch.Tensor:
        """Return (T, N, D) from (T, N, 3, D); in float32, whatever the model's dtype: positions need the digits."""
        query, key, value = fused.float().unbind(2)  # (T, N, D)
        value = value - value_bias
        attended = torch.empty_like(query)
        scale = 1 / math.sqrt(query.shape[-1])
        heads = query.shape[1]
        for prefix, length, rows in zip(self.prefixes, self.lengths, self.rows, strict=True):
            tail = rows.stop - rows.start
            room = self.workspace[: (length + tail) * self.width]
            keys = room.view(heads, -1, length + tail)
            prefix.read_keys(layer, keys[:, :, :length])
            keys[:, :, length:] = key[rows].permute(1, 2, 0)
            bias = self.biases[tail][:, :, self.longest - length :]
            scores = torch.baddbmm(bias, query[rows].transpose(0, 1), keys, alpha=scale)  # (N, tail, length + tail)
            values = room.view(heads, length + tail, -1)  # where the keys were: half as much of the processor's cache
            prefix.read_values(layer, values[:, :length])
            values[:, length:] = value[rows].transpose(0, 1)
            attended[rows] = torch.bmm(scores.softmax(-1), values).transpose(0, 1)
        return attended.add_(value_bias).to(fused.dtype)

    def pool(self, normed: torch.Tensor, absorbed: torch.Tensor) -> torch.Tensor:
        """Return (B, N, H), the average of each text's tokens, weighted by softmax(absorbed query . token + ALiBi)."""
        pooled = torch.empty_like(absorbed, dtype=torch.float32)
        for text, (prefix, length, rows) in enumerate(zip(self.prefixes, self.lengths, self.rows, strict=True)):
            tail = rows.stop - rows.start
            tokens = self.workspace[: (length + tail) * self.width].view(length + tail, -1)
            prefix.read_last(tokens[:length])
            tokens[length:] = normed[rows]
            bias = self.biases[tail][:, -1, self.longest - length :]  # of the last token
            weights = torch.addmm(bias, absorbed[text].float(), tokens.T).softmax(-1)  # (N, length + tail)
            torch.mm(weights, tokens, out=pooled[text])
        return pooled.to(normed.dtype)


def relative_bias(slopes: torch.Tensor, longest: int, tail: int) -> torch.Tensor:
    """ALiBi and the causal mask of a tail's queries over a prefix and the tail itself.

    A shift of all positions leaves softmax unchanged, so they count from the start of the tail: a shorter prefix then
    needs the end of the same table.

    :param slopes: (N,) float32.
    :param longest: tokens of the longest prefix.
    :param tail: tokens of the tail.
    :returns: (N, tail, longest + tail) float32.
    """
    place = torch.arange(longest + tail, device=slopes.device, dtype=torch.float32) - longest
    future = torch.ones(tail, tail, device=slopes.device, dtype=torch.bool).triu(1)
    bias = (slopes[:, None, None] * place).repeat(1, tail, 1)
    bias[:, :, longest:].masked_fill_(future, -torch.inf)
    return bias
