"""Passages, each with several questions -> last hidden states of every pair, each passage computed once.

The passage comes first and attention is causal, so its tokens do not see the question: 16 questions of 14 tokens about
a passage of 140 cost 364 tokens instead of 2,464, forward and backward. Numbers and gradients are those of the joined
pairs (`last_hidden_states`). Knows nothing of where passages and questions come from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import BloomModel

from haystack_integrations.common.bloomz.attention import alibi_slopes, packed_attention
from haystack_integrations.common.bloomz.forward import after_attention, embed, project
from haystack_integrations.common.bloomz.packing import PackedBatch, pack
from haystack_integrations.common.bloomz.tokens import TokenIds


@dataclass(frozen=True)
class SharedPassage:
    """A passage, with all that stands before the question, and n questions. Its length is the tokens computed."""

    passage: TokenIds
    questions: Sequence[TokenIds]

    def __len__(self) -> int:
        """Tokens computed."""
        return len(self.passage) + sum(map(len, self.questions))


def shared_states(model: BloomModel, asked: Sequence[SharedPassage]) -> torch.Tensor:
    """Return the final hidden state of the last token of each passage joined with each of its questions.

    :param model: weights.
    :param asked: P passages, each with n questions, none empty.
    :returns: (P, n, H), after the final layer norm, with gradients.
    """
    layout = _Layout(asked, model.word_embeddings.weight.device, model.config.n_head)
    passages, questions = embed(model, layout.passages), embed(model, layout.questions)
    for layer in model.h[:-1]:
        (normed, fused), (question_normed, question_fused) = project(layer, passages), project(layer, questions)
        attended = _attend(question_fused[layout.question_rows], question_fused, fused, layout, layout.causal)
        questions = after_attention(layer, questions, question_normed, attended[layout.real])
        attended = packed_attention(fused, layout.passages, layout.slopes)
        passages = after_attention(layer, passages, normed, attended)
    layer, last = model.h[-1], layout.questions.cu_seqlens[1:].long() - 1
    (_, fused), (question_normed, question_fused) = project(layer, passages), project(layer, questions)
    queries = question_fused[last].unflatten(0, (len(asked), -1, 1))
    attended = _attend(queries, question_fused, fused, layout, layout.whole).flatten(0, 2)
    states = after_attention(layer, questions[last], question_normed[last], attended)
    return model.ln_f(states).unflatten(0, (len(asked), -1))


class _Layout:
    """Where the tokens of P passages of at most L tokens and of P x n questions of at most M tokens stand."""

    def __init__(self, asked: Sequence[SharedPassage], device: torch.device, heads: int) -> None:
        self.passages = pack([item.passage for item in asked]).to(device)
        self.questions = pack([question for item in asked for question in item.questions]).to(device)
        self.slopes = alibi_slopes(heads, device)  # (N,)
        self.passage_rows, self._passage_real = _rows(self.passages)  # (P, L)
        rows, real = _rows(self.questions)
        self.question_rows, self.real = (each.unflatten(0, (len(asked), -1)) for each in (rows, real))  # (P, n, M)

    @cached_property
    def passage_bias(self) -> torch.Tensor:
        """(P, N, 1, L): ALiBi of the keys of each passage, minus infinity where there is none."""
        place = torch.arange(self.passage_rows.shape[1], device=self.slopes.device)
        bias = (self.slopes[:, None] * place)[None, :, None]
        return bias.masked_fill(~self._passage_real[:, None, None], -torch.inf)

    @cached_property
    def causal(self) -> torch.Tensor:
        """(P, N, 1, M, M): ALiBi of the keys of a question, for each of its tokens."""
        longest = self.real.shape[-1]
        future = torch.ones(longest, longest, dtype=torch.bool, device=self.slopes.device).triu(1)
        return self._question_bias.masked_fill(future, -torch.inf)

    @cached_property
    def whole(self) -> torch.Tensor:
        """(P, N, n, 1, M): the same for the last token of each question."""
        return self._question_bias.masked_fill(~self.real[:, None, :, None], -torch.inf)

    @cached_property
    def _question_bias(self) -> torch.Tensor:
        place = torch.arange(self.real.shape[-1], device=self.slopes.device)
        after = (
            self._passage_real.sum(1)[:, None, None, None, None] + place
        )  # the question continues where its passage ends
        return self.slopes[:, None, None, None] * after


def _rows(batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Row in the pack of each token of each text, texts side by side; and which of these are tokens."""
    starts, ends = batch.cu_seqlens[:-1, None].long(), batch.cu_seqlens[1:, None].long()
    rows = starts + torch.arange(batch.max_seqlen, device=starts.device)
    return rows.clamp(max=int(batch.input_ids.shape[0]) - 1), rows < ends


def _attend(
    queries: torch.Tensor, own: torch.Tensor, passages: torch.Tensor, layout: _Layout, own_bias: torch.Tensor
) -> torch.Tensor:
    """Let tokens of the questions see their passage and their own question.

    :param queries: (P, n, A, N, 3, D) fused projections of the A tokens of each question that look.
    :param own: (T, N, 3, D) of all question tokens.
    :param passages: (T', N, 3, D) of all passage tokens.
    :param layout: of both.
    :param own_bias: (P, N, 1 or n, A, M) ALiBi and mask over the own question.
    :returns: (P, n, A, N, D).
    """
    looking = queries[..., 0, :].permute(0, 3, 1, 2, 4) / math.sqrt(queries.shape[-1])  # (P, N, n, A, D)
    _, keys, values = passages[layout.passage_rows].permute(3, 0, 2, 1, 4)  # (P, N, L, D)
    _, own_keys, own_values = own[layout.question_rows].permute(4, 0, 3, 1, 2, 5)  # (P, N, n, M, D)
    flat = looking.flatten(2, 3)  # (P, N, n A, D): one product per passage
    scores = (flat @ keys.transpose(-1, -2) + layout.passage_bias).unflatten(2, looking.shape[2:4])
    own_scores = looking @ own_keys.transpose(-1, -2) + own_bias
    weights = torch.cat([scores, own_scores], dim=-1).softmax(-1)  # (P, N, n, A, L + M)
    over_passage, over_own = weights.split([keys.shape[2], own_keys.shape[3]], dim=-1)
    attended = (over_passage.flatten(2, 3) @ values).view_as(looking) + over_own @ own_values
    return attended.permute(0, 2, 3, 1, 4)
