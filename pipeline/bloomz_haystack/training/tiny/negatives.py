"""Retriever and rows -> hard negatives: for each row, other rows whose passages rank high for its question.

By vectors and by words (BM25 over tokens): a ranker meets what either search finds.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn.functional import normalize

from bloomz_haystack.training.base import load_body, load_tokenizer
from bloomz_haystack.training.config import TrainConfig
from bloomz_haystack.training.data.rows import Negative, Sides, TokenRow
from bloomz_haystack.training.data.sources import TokenRows
from bloomz_haystack.training.data.templates import text_template
from bloomz_haystack.training.objectives.grad_cache import compute_in_chunks
from bloomz_haystack.training.objectives.retriever import text_vectors
from bloomz_haystack.training.team import Team
from bloomz_haystack.training.tiny.bag import TokenBag
from bloomz_haystack.training.tiny.bm25 import TokenBm25
from haystack_integrations.common.bloomz.tokens import TokenIds

SAMPLED_ROWS = 20_000  # of a source: the others are dropped
DEPTH = 16  # negatives come from the first ranks of either search
QUESTIONS_TOGETHER = 1024  # bounds the score matrix

EncodeTokens = Callable[[Sequence[TokenIds]], torch.Tensor]


def add_negatives(rows: TokenRows, retriever: str, config: TrainConfig, team: Team) -> TokenRows:
    """Return an even sample of a source with hard negatives.

    :param rows: of one source, with token ids.
    :param retriever: bundled name, folder or Hub name.
    :param config: of the run: seed, negatives of a row, tokens computed together.
    :param team: the processes that share the work, and their device.
    :returns: the source.
    :raises ValueError: if the retriever cannot be loaded.
    """
    encode = token_encoder(retriever, config.run.chunk_tokens, team)
    train, validation = (
        [
            row._replace(negatives=row.negatives[: config.data.negatives])
            for row in find_negatives(part, encode, config.run.seed)
        ]
        for part in (rows.train, rows.validation)
    )
    return replace(rows, train=train, validation=validation)


def find_negatives(rows: Sequence[TokenRow], encode: EncodeTokens, seed: int) -> list[TokenRow]:
    """Return rows with hard negatives found within their own source.

    :param rows: with token ids; the question of a row without one is the start of its passage.
    :param encode: token ids -> (B, H) vectors.
    :param seed: random seed (sample, languages).
    :returns: at most `SAMPLED_ROWS` rows, each with up to twice `DEPTH` negatives: passages of other rows that rank
        high by vectors or by words, best first, in turns.
    """
    if not rows:
        return []
    rng = np.random.default_rng(seed)
    sample = [rows[i] for i in np.sort(rng.choice(len(rows), size=min(SAMPLED_ROWS, len(rows)), replace=False))]
    pool = list({row.group: row for row in sample}.values())
    passages, questions = [_any(row.positives, rng) for row in pool], [_question(row, rng) for row in sample]
    vectors, asked = normalize(encode(passages).float(), dim=-1), normalize(encode(questions).float(), dim=-1)
    words = TokenBm25(passages, vectors.device)
    found = []
    for start in range(0, len(sample), QUESTIONS_TOGETHER):
        block = slice(start, start + QUESTIONS_TOGETHER)
        scores = (asked[block] @ vectors.T, words.scores(questions[block]))
        places = [each.topk(min(DEPTH, len(pool)), dim=1).indices for each in scores]
        in_turns = torch.stack(places, dim=2).flatten(1).tolist()
        for row, nearest in zip(sample[block], in_turns, strict=True):
            others = [pool[place] for place in dict.fromkeys(nearest) if pool[place].group != row.group]
            found.append(row._replace(negatives=[Negative(other.positives, 0.0, other.group) for other in others]))
    return found


def token_encoder(retriever: str, chunk_tokens: int, team: Team) -> EncodeTokens:
    """Load the retriever that finds negatives.

    :param retriever: bundled name, folder or Hub name.
    :param chunk_tokens: computed together.
    :param team: the processes that share the work, and their device.
    :returns: token ids -> (B, K) vectors; if the retriever was written from a bag, by its sum: seconds, not minutes.
    :raises ValueError: if it cannot be loaded.
    """
    model = load_body(retriever)
    try:
        return torch.no_grad()(TokenBag.of(model).to(team.device))
    except ValueError:
        compute = partial(text_vectors, model.to(team.device), template=text_template(load_tokenizer(retriever)))
        return partial(compute_in_chunks, compute, width=model.config.hidden_size, chunk_tokens=chunk_tokens, team=team)


def _question(row: TokenRow, rng: np.random.Generator) -> TokenIds:
    return _any(row.queries, rng) if row.queries else list(row.positives.values())[-1][:16]


def _any(sides: Sides[TokenIds], rng: np.random.Generator) -> TokenIds:
    return list(sides.values())[rng.integers(len(sides))]
