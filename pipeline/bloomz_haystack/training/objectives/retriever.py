"""The retriever's objective: InfoNCE on cosine, with hard negatives and a learned temperature.

Source: model card of cmarkea/bloomz-560m-retriever-v2.
"""

import math
from collections.abc import Iterable, Sequence
from typing import get_args

import numpy as np
import torch
from torch import nn
from transformers import BloomModel, PreTrainedModel

from bloomz_haystack.training.config import LanguagePair, TrainConfig
from bloomz_haystack.training.data.rows import TokenRow
from bloomz_haystack.training.data.sampling import Contrast, RowSampler, contrast_batch
from bloomz_haystack.training.objectives.grad_cache import Compute
from bloomz_haystack.training.objectives.losses import info_nce
from bloomz_haystack.training.objectives.ranks import cosine_mrr
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

MAX_LOGIT_SCALE = 100.0  # as in CLIP


class RetrieverObjective:
    """What a retriever learns: each question nearest to its own passage."""

    def __init__(
        self,
        model: PreTrainedModel,
        vectors: Compute,
        sampler: RowSampler,
        held_out: Sequence[TokenRow],
        config: TrainConfig,
    ) -> None:
        """Store the parts.

        :param model: trained in place: a Bloom, or what has its `config.hidden_size` and `get_input_embeddings()`.
        :param vectors: n token arrays -> (n, H) vectors of the model, with gradients.
        :param sampler: draws the rows to train on.
        :param held_out: rows to measure on.
        :param config: of the run.
        """
        self.model = model
        self.compute = vectors
        self.width: int = model.config.hidden_size
        device = model.get_input_embeddings().weight.device
        self._logit_scale = nn.Parameter(torch.tensor(-math.log(config.loss.temperature), device=device))
        self._sampler = sampler
        self._held_out = held_out
        self._config = config

    @property
    def extra(self) -> list[nn.Parameter]:
        """Parameters outside the model: the logarithm of 1/temperature."""
        return [self._logit_scale]

    def batch(self, step: int) -> Contrast:
        """Return the batch of a step.

        :param step: from 0.
        :returns: questions and passages.
        """
        return contrast_batch(self._sampler, self._config.run.batch_size, step)

    def loss(self, outputs: torch.Tensor, batch: Contrast) -> torch.Tensor:
        """Return the loss of a batch.

        :param outputs: (B + P, H) vectors of its texts.
        :param batch: of the step.
        :returns: () mean over the questions, in nats.
        """
        questions, passages = outputs.split([len(batch.questions), len(batch.passages)])
        groups = torch.from_numpy(batch.groups).to(outputs.device)
        return info_nce(questions, passages, self._logit_scale, groups, symmetric=self._config.loss.symmetric)

    def after_step(self) -> None:
        """Clamp the temperature's parameter itself: a clamp inside the loss would stop its gradient for good."""
        with torch.no_grad():
            self._logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def figures(self) -> dict[str, float]:
        """Return the temperature.

        :returns: value by name.
        """
        return {"temperature": math.exp(-float(self._logit_scale.detach()))}

    def validate(self, compute: Compute) -> dict[str, float]:
        """Rank each held-out passage for its question among all held-out passages of that language.

        :param compute: texts -> (n, H), without gradients.
        :returns: `validation_mrr`, the mean over the language pairs there are, and the MRR of each pair.
        """
        texts = _DistinctTexts()
        places = {pair: _places(self._held_out, pair, texts) for pair in self._wanted_pairs()}
        if not texts.ids:
            return {}
        vectors = compute(texts.ids)
        found = {pair: cosine_mrr(vectors[ask], vectors[answer]) for pair, (ask, answer) in places.items() if ask}
        return {"validation_mrr": float(np.mean(list(found.values()))), **{f"mrr_{p}": v for p, v in found.items()}}

    def _wanted_pairs(self) -> Iterable[LanguagePair]:
        weights = self._config.data.language_pairs
        return [pair for pair in get_args(LanguagePair) if not weights or weights.get(pair)]


def text_vectors(model: BloomModel, texts: Sequence[TokenIds], template: SpecialTokens) -> torch.Tensor:
    """Return the vectors that a Bloom gives texts.

    :param model: the bi-encoder.
    :param texts: n token arrays, without special tokens.
    :param template: special tokens around a text.
    :returns: (n, H) last-token states, with gradients.
    """
    whole = [np.concatenate([template.before, ids, template.after]).astype(np.int64) for ids in texts]
    return last_hidden_states(model, pack(whole).to(model.get_input_embeddings().weight.device))


class _DistinctTexts:
    """Texts, each kept once."""

    def __init__(self) -> None:
        self.ids: list[TokenIds] = []
        self._known: dict[int, int] = {}

    def place(self, ids: TokenIds) -> int:
        if id(ids) not in self._known:
            self._known[id(ids)] = len(self.ids)
            self.ids.append(ids)
        return self._known[id(ids)]


def _places(rows: Iterable[TokenRow], pair: LanguagePair, texts: _DistinctTexts) -> tuple[list[int], list[int]]:
    asked, answering = pair.split("-")
    having = [row for row in rows if asked in row.queries and answering in row.positives]
    return (
        [texts.place(row.queries[asked]) for row in having],
        [texts.place(row.positives[answering]) for row in having],
    )
