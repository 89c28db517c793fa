"""Retriever and rows -> hard negatives: for each row, other rows whose passages rank high for its question.

By vectors and by words (BM25 over tokens): a ranker meets what either search finds.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from bloomz_haystack.training.data.rows import Negative, Row, Sides
from bloomz_haystack.training.tiny.bm25 import Bm25
from haystack_integrations.common.bloomz.tokens import TokenIds

DEPTH = 16  # negatives come from the first ranks of either search
BLOCK = 1024  # questions scored together: bounds the score matrix

Encode = Callable[[Sequence[TokenIds]], torch.Tensor]


def mine(rows: Sequence[Row], encode: Encode, seed: int, most_rows: int) -> list[Row]:
    """Find the hard negatives of each row within its own source.

    :param rows: with token ids; rows without a question are asked by their passage's first tokens.
    :param encode: token ids -> (B, H) vectors.
    :param seed: of the sample and of the languages.
    :param most_rows: size of the sample.
    :returns: the sampled rows, each with up to twice ``DEPTH`` negatives: passages of other rows that rank high by
        vectors or by words, best first, in turns.
    """
    if not rows:
        return []
    rng = np.random.default_rng(seed)
    sample = [rows[i] for i in np.sort(rng.choice(len(rows), size=min(most_rows, len(rows)), replace=False))]
    pool = list({row.group: row for row in sample}.values())
    passages, questions = [_any(row.positives, rng) for row in pool], [_question(row, rng) for row in sample]
    vectors, asked = _unit(encode(passages)), _unit(encode(questions))
    words = Bm25(passages, vectors.device)
    mined = []
    for start in range(0, len(sample), BLOCK):
        block = slice(start, start + BLOCK)
        scores = (asked[block] @ vectors.T, words.scores(questions[block]))
        found = [each.topk(min(DEPTH, len(pool)), dim=1).indices for each in scores]
        in_turns = torch.stack(found, dim=2).flatten(1).tolist()
        for row, places in zip(sample[block], in_turns, strict=True):
            others = [pool[place] for place in dict.fromkeys(places) if pool[place].group != row.group]
            negatives = [Negative(other.positives, 0.0, other.group) for other in others]
            mined.append(row._replace(negatives=negatives))
    return mined


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _question(row: Row, rng: np.random.Generator) -> TokenIds:
    return _any(row.queries, rng) if row.queries else list(row.positives.values())[-1][:16]


def _any(sides: Sides, rng: np.random.Generator) -> TokenIds:
    return list(sides.values())[rng.integers(len(sides))]
