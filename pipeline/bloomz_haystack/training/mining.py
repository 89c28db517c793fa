"""Retriever and rows -> hard negatives: for each row, other rows whose passages rank high for its question."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from haystack_integrations.common.bloomz.tokens import TokenIds

from .data import Row

DEPTH = 32  # negatives come from the first ranks
BLOCK = 1024  # questions scored together: bounds the score matrix
MOST_ROWS = 30_000  # of a source: an even sample of it is mined and trained on

Encode = Callable[[Sequence[TokenIds]], torch.Tensor]


def mine(rows: Sequence[Row], encode: Encode, seed: int) -> list[tuple[Row, list[Row]]]:
    """Find the hard negatives of each row within its own source.

    :param rows: with token ids; rows without a question are asked by their passage's first tokens.
    :param encode: token ids -> (B, H) vectors.
    :param seed: of the sample and of the languages.
    :returns: each sampled row with up to ``DEPTH`` rows that rank high and hold another passage.
    """
    rng = np.random.default_rng(seed)
    sample = [rows[i] for i in np.sort(rng.choice(len(rows), size=min(MOST_ROWS, len(rows)), replace=False))]
    pool = list({row.group: row for row in sample}.values())
    passages = _unit(encode([row.positives[rng.integers(len(row.positives))] for row in pool]))
    questions = _unit(encode([_question(row, rng) for row in sample]))
    mined = []
    for start in range(0, len(sample), BLOCK):
        block = sample[start : start + BLOCK]
        best = (questions[start : start + BLOCK] @ passages.T).topk(min(DEPTH, len(pool)), dim=1).indices.tolist()
        for row, places in zip(block, best, strict=True):
            mined.append((row, [pool[place] for place in places if pool[place].group != row.group]))
    return mined


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _question(row: Row, rng: np.random.Generator) -> TokenIds:
    return row.queries[rng.integers(len(row.queries))] if row.queries else row.positives[-1][:16]
