"""The ranker's objective by grids: the questions of n rows, each scored against the passages of all n.

The rows of a grid are two neighbourhoods, so a passage that answers one question is a hard negative of the others, and
every passage is computed once (`shared_prefix`): five times the pairs of `RankerObjective` for the same work.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import BloomForSequenceClassification

from bloomz_haystack.training.config import TrainConfig
from bloomz_haystack.training.data.rows import TokenRow
from bloomz_haystack.training.data.sampling import RowSampler
from bloomz_haystack.training.data.word_exchange import WordExchange
from bloomz_haystack.training.objectives.grad_cache import Compute
from bloomz_haystack.training.objectives.losses import listwise_cross_entropy, pair_cross_entropy
from bloomz_haystack.training.objectives.ranker import ranking_figures
from bloomz_haystack.training.objectives.ranks import worst_ranks
from bloomz_haystack.training.objectives.shared_prefix import SharedPassage, shared_states
from haystack_integrations.common.bloomz.tokens import SpecialTokens, TokenIds

SENTENCES = (4, 10)  # of a parallel source joined to a passage: one alone would be found by its length
VALIDATION_GRIDS = 32


class Grids(NamedTuple):
    """G grids: G x n passages, each with the n questions of its grid, question i answered by passage i.

    `groups` (G, n) int64: passages of the same group hold the same text. `exchanged` (G,): grids whose words are
    exchanged.
    """

    texts: list[SharedPassage]
    groups: npt.NDArray[np.int64]
    exchanged: npt.NDArray[np.bool_]


class Prior(Protocol):
    """What stands beside the log-odds of a grid, as a retriever's scores do beside a ranker's."""

    def shortfall(
        self, questions: Sequence[TokenIds], passages: Sequence[TokenIds], size: int, exchanged: torch.Tensor
    ) -> torch.Tensor:
        """Return (G, n, n) how far each similarity is below the best of its question, as a share of it."""


class ListwiseObjective:
    """What a ranker learns: which passage of a grid answers, and whether each one does."""

    def __init__(
        self,
        model: BloomForSequenceClassification,
        sampler: RowSampler,
        rows: Sequence[TokenRow],
        held_out: Sequence[TokenRow],
        template: SpecialTokens,
        config: TrainConfig,
        prior: Prior | None = None,
    ) -> None:
        """Store the parts and draw the grids to measure on.

        :param model: trained in place.
        :param sampler: draws the rows to train on, which have negatives.
        :param rows: all of those rows.
        :param held_out: rows to measure on, which have negatives.
        :param template: special tokens around passage and question.
        :param config: of the run.
        :param prior: counts in half of the listwise loss and in validation, with weight `loss.prior`; None: nothing.
        """
        self.model = model
        self.extra: list[nn.Parameter] = []
        self.width = 2 * config.loss.grid
        self._sampler, self._template, self._config, self._prior = sampler, template, config, prior
        self._near = Neighbours(rows)
        self._sentences = [row for row in rows if row.parallel]
        passages = [ids for row in rows for ids in row.positives.values()] if config.loss.shuffled_words else []
        special = 1 + max(*template.before, *template.between, *template.after, 3)
        vocabulary = model.config.vocab_size
        self._shuffled = WordExchange(passages, vocabulary, special) if passages else None
        rng = sampler.rng(0)
        seeds = [held_out[i] for i in rng.permutation(len(held_out))]
        self._held_out = self._grids(seeds[: 2 * VALIDATION_GRIDS], Neighbours(held_out), rng)

    def batch(self, step: int) -> Grids:
        """Return the batch of a step.

        :param step: from 0.
        :returns: as many grids as hold `batch_size` pairs, but at least one.
        """
        rng = self._sampler.rng(step)
        count = max(1, self._config.run.batch_size // self._config.loss.grid**2)
        return self._grids(list(self._sampler.rows(2 * count, step, rng)), self._near, rng)

    def compute(self, texts: Sequence[SharedPassage]) -> torch.Tensor:
        """Return the logits of passages with their questions.

        :param texts: P passages with n questions each.
        :returns: (P, 2 n) logits, with gradients.
        """
        return self.model.score(shared_states(self.model.transformer, texts)).flatten(1)

    def loss(self, outputs: torch.Tensor, batch: Grids) -> torch.Tensor:
        """Return the loss of a batch.

        :param outputs: (G n, 2 n) logits.
        :param batch: of the step.
        :returns: () listwise cross-entropy of the log-odds, plus that of the pairs, in nats.
        """
        logits = self._by_question(outputs)  # (G, n questions, n passages, 2)
        groups = torch.from_numpy(batch.groups).to(outputs.device)
        own = torch.eye(logits.shape[1], dtype=torch.bool, device=outputs.device)
        known = ~(groups[:, :, None] == groups[:, None, :]) | own  # another row's copy of the right text: no negative
        labels = own.expand(known.shape)[known].long()
        log_odds = _log_odds(logits)
        listwise = listwise_cross_entropy(log_odds, known)
        if self._prior:
            listwise = (listwise + listwise_cross_entropy(self._with_prior(log_odds, batch), known)) / 2
        return listwise + pair_cross_entropy(logits[known], labels)

    def after_step(self) -> None:
        """Do nothing: no parameter has a bound."""

    def figures(self) -> dict[str, float]:
        """Return nothing beside the loss.

        :returns: an empty dictionary.
        """
        return {}

    def validate(self, compute: Compute) -> dict[str, float]:
        """Rank the passages of held-out grids for each of their questions.

        :param compute: texts -> (P, 2 n), without gradients.
        :returns: `ranking_figures`; nothing if too few rows are held out for a grid.
        """
        if not self._held_out.texts:
            return {}
        alone = _log_odds(self._by_question(compute(self._held_out.texts)))  # (G, n, n)
        odds = self._with_prior(alone, self._held_out)
        ranks = worst_ranks(odds, odds.diagonal(dim1=1, dim2=2))
        first = odds.amax(-1)
        return ranking_figures(ranks.flatten().cpu().numpy(), first.flatten().cpu().numpy(), self._config)

    def _with_prior(self, log_odds: torch.Tensor, batch: Grids) -> torch.Tensor:
        if not self._prior:
            return log_odds
        before, between, after = map(len, self._template)
        size = self._config.loss.grid
        passages = [text.passage[before : len(text.passage) - between] for text in batch.texts]
        questions = [ids[: len(ids) - after] for text in batch.texts[::size] for ids in text.questions]
        exchanged = torch.from_numpy(batch.exchanged).to(log_odds.device)
        return log_odds - self._config.loss.prior * self._prior.shortfall(questions, passages, size, exchanged)

    def _by_question(self, outputs: torch.Tensor) -> torch.Tensor:
        size = self._config.loss.grid
        return outputs.view(-1, size, size, 2).transpose(1, 2)  # one passage per row -> one question per row

    def _grids(self, seeds: Sequence[TokenRow], near: "Neighbours", rng: np.random.Generator) -> Grids:
        """Return a grid for every two seeds; a grid without enough rows is left out."""
        every = [near.fill(pair, self._config.loss.grid, rng) for pair in zip(seeds[::2], seeds[1::2], strict=False)]
        full = [rows for rows in every if len(rows) == self._config.loss.grid]
        groups = np.asarray([[row.group for row in rows] for rows in full], dtype=np.int64)
        asked = [self._asked(rows, rng) for rows in full]
        exchanged = np.asarray([one for _, one in asked], dtype=np.bool_)
        return Grids([text for texts, _ in asked for text in texts], groups, exchanged)

    def _asked(self, rows: Sequence[TokenRow], rng: np.random.Generator) -> tuple[list[SharedPassage], bool]:
        """Return the texts of a grid, and whether their words are exchanged.

        All are in the languages drawn for its first row, or they would tell rows apart.
        """
        languages = self._sampler.languages(rows[0], rng)
        drawn = [self._sampler.draw(row, rng, wanted=languages) for row in rows]
        before, between, after = self._template
        questions = [np.concatenate([item.question, after]).astype(np.int64) for item in drawn]
        passages = [item.passage for item in drawn]
        exchanged = False
        if rows[0].parallel:
            passages = [self._among_others(passage, languages[1], rng) for passage in passages]
        elif self._shuffled and languages[0] == languages[1] and rng.random() < self._config.loss.shuffled_words:
            exchanged, exchange = True, self._shuffled.draw(rng)
            questions, passages = ([exchange[ids] for ids in texts] for texts in (questions, passages))
        starts = [np.concatenate([before, passage, between]).astype(np.int64) for passage in passages]
        return [SharedPassage(start, questions) for start in starts], exchanged

    def _among_others(self, sentence: TokenIds, language: str, rng: np.random.Generator) -> TokenIds:
        """Return a sentence of a parallel source among others of its language, as one passage."""
        others = [self._sentences[rng.integers(len(self._sentences))] for _ in range(int(rng.integers(*SENTENCES)))]
        texts = [row.positives[language] for row in others if language in row.positives]
        room = self._config.data.max_length - len(sentence)
        kept = [text for text, end in zip(texts, np.cumsum([len(text) for text in texts]), strict=True) if end <= room]
        kept.insert(int(rng.integers(len(kept) + 1)), sentence)
        return np.concatenate(kept)


class Neighbours:
    """The rows near a row: those whose passages are its negatives."""

    def __init__(self, rows: Sequence[TokenRow]) -> None:
        """Index rows by their passage.

        :param rows: with negatives.
        """
        self._by_group: dict[int, list[TokenRow]] = {}
        for row in rows:
            self._by_group.setdefault(row.group, []).append(row)
        self._groups: dict[bool, list[int]] = {False: [], True: []}
        for group, (row, *_) in self._by_group.items():
            self._groups[row.parallel].append(group)

    def fill(self, seeds: Sequence[TokenRow], size: int, rng: np.random.Generator) -> list[TokenRow]:
        """Return rows of different passages: equally many near each seed, then any.

        :param seeds: rows; only those of the first one's kind, parallel or not, are used.
        :param size: rows wanted.
        :param rng: of the step.
        :returns: that many rows, the first seed first; fewer if there are no more.
        """
        chosen: dict[int, TokenRow] = {}
        like = [seed for seed in seeds if seed.parallel == seeds[0].parallel]
        for place, seed in enumerate(like, start=1):
            for row in self._around(seed, rng):
                if len(chosen) < size * place // len(like):
                    chosen.setdefault(row.group, row)
        left = self._groups[seeds[0].parallel]
        for i in rng.choice(len(left), size=min(len(left), 4 * size), replace=False) if len(chosen) < size else ():
            if len(chosen) < size:
                chosen.setdefault(left[i], self._any(left[i], rng))
        return list(chosen.values())

    def _around(self, row: TokenRow, rng: np.random.Generator) -> list[TokenRow]:
        groups = [negative.group for negative in row.negatives if negative.group in self._by_group]
        return [row, *(self._any(groups[i], rng) for i in rng.permutation(len(groups)))]

    def _any(self, group: int, rng: np.random.Generator) -> TokenRow:
        rows = self._by_group[group]
        return rows[rng.integers(len(rows))]


def _log_odds(logits: torch.Tensor) -> torch.Tensor:
    return logits[..., 1] - logits[..., 0]
