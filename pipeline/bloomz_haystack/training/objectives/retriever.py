"""The retriever's objective: InfoNCE on cosine, with hard negatives and a learnt temperature.

Source: model card of cmarkea/bloomz-560m-retriever-v2.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn
from transformers import BloomModel

from bloomz_haystack.training.config import LANGUAGE_PAIRS, TrainConfig
from bloomz_haystack.training.data.rows import Row
from bloomz_haystack.training.data.sampling import Contrast, RowSampler, contrast_batch
from bloomz_haystack.training.objectives.grad_cache import Compute
from bloomz_haystack.training.objectives.losses import info_nce
from bloomz_haystack.training.tiny.bag import TokenBag
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

MAX_LOGIT_SCALE = 100.0  # as CLIP clamps it


class RetrieverObjective:
    """What a retriever learns: each question nearest to its own passage."""

    def __init__(
        self,
        model: BloomModel | TokenBag,
        sampler: RowSampler,
        held_out: Sequence[Row],
        template: SpecialTokens,
        config: TrainConfig,
    ) -> None:
        """Keep the parts.

        :param model: trained in place.
        :param sampler: of the rows to train on.
        :param held_out: rows to measure on.
        :param template: what goes around a text.
        :param config: of the run.
        """
        self.model = model
        self.width: int = model.config.hidden_size
        device = model.get_input_embeddings().weight.device
        self._logit_scale = nn.Parameter(torch.tensor(-math.log(config.loss.temperature), device=device))
        self._sampler = sampler
        self._held_out = held_out
        self._template = template
        self._config = config

    @property
    def extra(self) -> list[nn.Parameter]:
        """Parameters outside the model: the logarithm of 1/temperature."""
        return [self._logit_scale]

    def batch(self, step: int) -> Contrast:
        """Give the batch of a step.

        :param step: from 0.
        :returns: questions and passages.
        """
        return contrast_batch(self._sampler, self._config.run.batch_size, step)

    def compute(self, texts: Sequence[TokenIds]) -> torch.Tensor:
        """Embed texts.

        :param texts: n token arrays.
        :returns: (n, H) last-token states, or sums of a bag, with gradients.
        """
        if isinstance(self.model, TokenBag):
            return self.model(texts)
        return embed(self.model, texts, self._template)

    def loss(self, outputs: torch.Tensor, batch: Contrast) -> torch.Tensor:
        """Take the loss of a batch.

        :param outputs: (B + P, H) vectors of its texts.
        :param batch: of the step.
        :returns: () mean over the questions, in nats.
        """
        questions, passages = outputs.split([len(batch.questions), len(batch.passages)])
        groups = torch.from_numpy(batch.groups).to(outputs.device)
        return info_nce(questions, passages, self._logit_scale, groups, symmetric=self._config.loss.symmetric)

    def after_step(self) -> None:
        """Clamp the parameter itself: a clamp inside the loss would stop its gradient for good."""
        with torch.no_grad():
            self._logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def figures(self) -> dict[str, float]:
        """Tell the temperature.

        :returns: named figures of the moment.
        """
        return {"temperature": math.exp(-float(self._logit_scale.detach()))}

    def validate(self, compute: Compute) -> dict[str, float]:
        """Rank each held-out passage for its question among all held-out passages of that language.

        :param compute: texts -> (n, H), without gradients.
        :returns: ``validation_mrr``, the mean over the language pairs there are, and that of each pair.
        """
        texts = _Numbered()
        places = {pair: _places(self._held_out, pair, texts) for pair in self._wanted_pairs()}
        if not texts.ids:
            return {}
        vectors = compute(texts.ids)
        found = {pair: mrr(vectors[asked], vectors[answering]) for pair, (asked, answering) in places.items() if asked}
        return {"validation_mrr": float(np.mean(list(found.values()))), **{f"mrr_{p}": v for p, v in found.items()}}

    def _wanted_pairs(self) -> Iterable[str]:
        weights = self._config.data.language_pairs
        return [pair for pair in LANGUAGE_PAIRS if not weights or weights.get(pair)]


def embed(model: BloomModel, texts: Sequence[TokenIds], template: SpecialTokens) -> torch.Tensor:
    """Embed texts with a Bloom.

    :param model: the bi-encoder.
    :param texts: n token arrays, without special tokens.
    :param template: what its tokenizer writes around a text.
    :returns: (n, H) last-token states, with gradients.
    """
    whole = [np.concatenate([template.before, ids, template.after]).astype(np.int64) for ids in texts]
    return last_hidden_states(model, pack(whole).to(model.get_input_embeddings().weight.device))


class _Numbered:
    """Texts, each kept once."""

    def __init__(self) -> None:
        self.ids: list[TokenIds] = []
        self._known: dict[int, int] = {}

    def place(self, ids: TokenIds) -> int:
        if id(ids) not in self._known:
            self._known[id(ids)] = len(self.ids)
            self.ids.append(ids)
        return self._known[id(ids)]


def _places(rows: Iterable[Row], pair: str, texts: _Numbered) -> tuple[list[int], list[int]]:
    asked, answering = pair.split("-")
    having = [row for row in rows if asked in row.queries and answering in row.positives]
    return (
        [texts.place(row.queries[asked]) for row in having],
        [texts.place(row.positives[answering]) for row in having],
    )


def mrr(questions: torch.Tensor, passages: torch.Tensor) -> float:
    """Mean reciprocal rank of passage i for question i among all passages, by cosine.

    :param questions: (B, H).
    :param passages: (B, H).
    :returns: 0..1; of equal scores the right one comes last.
    """
    scores = nn.functional.normalize(questions, dim=-1) @ nn.functional.normalize(passages, dim=-1).T
    ranks = (scores >= scores.diagonal()[:, None]).sum(1)
    return float((1 / ranks).mean())
