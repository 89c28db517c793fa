"""The ranker's objective: which pairs of passage and question belong together.

Source: model card of cmarkea/bloomz-560m-reranking.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import BloomForSequenceClassification

from bloomz_haystack.training.config import TrainConfig
from bloomz_haystack.training.data.rows import TokenRow
from bloomz_haystack.training.data.sampling import LabelledPairs, RowSampler, labelled_batch
from bloomz_haystack.training.objectives.calibration import calibration_figures
from bloomz_haystack.training.objectives.grad_cache import Compute
from bloomz_haystack.training.objectives.losses import pair_cross_entropy
from bloomz_haystack.training.objectives.ranks import worst_ranks
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

VALIDATION_NEGATIVES = 10  # a question


class RankerObjective:
    """What a ranker learns: the label of each pair."""

    width = 2  # logits of a pair

    def __init__(
        self,
        model: BloomForSequenceClassification,
        sampler: RowSampler,
        held_out: Sequence[TokenRow],
        template: SpecialTokens,
        config: TrainConfig,
    ) -> None:
        """Store the parts and draw the pairs to measure on.

        :param model: trained in place.
        :param sampler: draws the rows to train on, which have negatives.
        :param held_out: rows to measure on, which have negatives.
        :param template: special tokens around passage and question.
        :param config: of the run.
        """
        self.model = model
        self.extra: list[nn.Parameter] = []
        self._sampler = sampler
        self._template = template
        self._config = config
        rng = np.random.default_rng(config.run.seed)
        self._held_out = labelled_batch(sampler, held_out, VALIDATION_NEGATIVES, template, rng)

    def batch(self, step: int) -> LabelledPairs:
        """Return the batch of a step.

        :param step: from 0.
        :returns: at most `batch_size` pairs.
        """
        rng = self._sampler.rng(step)
        ratio = self._config.loss.negatives_per_positive
        rows = self._sampler.rows(max(1, self._config.run.batch_size // (1 + ratio)), step, rng)
        return labelled_batch(self._sampler, list(rows), ratio, self._template, rng)

    def compute(self, texts: Sequence[TokenIds]) -> torch.Tensor:
        """Return the logits of pairs.

        :param texts: n token arrays.
        :returns: (n, 2) logits, with gradients.
        """
        packed = pack(texts).to(self.model.get_input_embeddings().weight.device)
        return self.model.score(last_hidden_states(self.model.transformer, packed))

    def loss(self, outputs: torch.Tensor, batch: LabelledPairs) -> torch.Tensor:
        """Return the loss of a batch.

        :param outputs: (B, 2) logits of its pairs.
        :param batch: of the step.
        :returns: () mean over the pairs, in nats.
        """
        return pair_cross_entropy(outputs, torch.from_numpy(batch.labels).to(outputs.device))

    def after_step(self) -> None:
        """Do nothing: no parameter has a bound."""

    def figures(self) -> dict[str, float]:
        """Return nothing beside the loss.

        :returns: an empty dictionary.
        """
        return {}

    def validate(self, compute: Compute) -> dict[str, float]:
        """Rank the right passage of each held-out question among its negatives.

        :param compute: texts -> (n, 2), without gradients.
        :returns: `ranking_figures`.
        """
        if not self._held_out.texts:
            return {}
        logits = compute(self._held_out.texts)
        sizes = np.bincount(self._held_out.questions).tolist()
        groups = (logits[:, 1] - logits[:, 0]).cpu().split(sizes)  # the positive stands first in each
        ranks = torch.stack([worst_ranks(group, group[0]) for group in groups])
        return ranking_figures(ranks.numpy(), torch.stack([group.max() for group in groups]).numpy(), self._config)


def ranking_figures(
    ranks: npt.NDArray[np.int64], first: npt.NDArray[np.float32], config: TrainConfig
) -> dict[str, float]:
    """Return how well held-out questions were ranked.

    :param ranks: (Q,) of the right passage, from 1.
    :param first: (Q,) highest log-odds of a question.
    :param config: of the run.
    :returns: `validation_mrr`, `validation_top1` and, if the run calibrates, `calibration.KEYS`.
    """
    figures = {"validation_mrr": float((1 / ranks).mean()), "validation_top1": float((ranks == 1).mean())}
    return figures | calibration_figures(config.run.calibration, first, ranks == 1)
