"""What several searches found -> one ranked list, by score or by rank. Knows nothing of stores and texts."""

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Generic, Literal, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)
Fusion = Literal["convex", "rrf"]
Scale = Literal["cosine", "bm25"]

# Cormack et al. take 60, where the tenth of a list counts nearly as much as the first: a weak side then pulls a strong
# one down.
RANK_CONSTANT = 2
# Of the vectors and of the words. MRR (%), first 100 of each side, with the bundled tiny-fr-en-retriever on SQuAD in
# English (2,000 questions), PIAF in French, SQuAD from French to English and back (to 35 passages); then on rows held
# out of its training: PIAF in French, QED in English, law in French, French to English, English to French, in English.
#   vectors alone                     74.3  68.5  46.9  86.1    53.2  68.2  63.6  55.8  54.9  66.5
#   words alone                       87.6  80.7  41.2  83.3    80.8  71.7  34.2  10.5   9.8  40.3
#   convex, words by coverage         88.2  82.0  55.8  92.4    78.5  77.5  51.6  45.1  39.1  58.3
#   rrf, words by coverage            87.8  80.7  51.8  91.9    77.7  76.0  46.5  44.5  38.4  52.1
# The weights were chosen on the held-out rows, where they are best or near it, with a look at the first four sets.
FUSION_WEIGHTS: dict[Fusion, tuple[float, float]] = {"convex": (0.6, 0.4), "rrf": (0.25, 0.75)}


class Side(NamedTuple, Generic[Key]):
    """What one search found: hits of (key, score), each key once; and how much it counts."""

    hits: Sequence[tuple[Key, float]]
    weight: float  # 0 leaves the side out
    scale: Scale  # of the scores; those of BM25 are > 0, and a word more makes them higher without end
    trust: float = 1.0  # in this question, 0 to 1: multiplies the weight


def fuse(
    sides: Sequence[Side[Key]], fusion: Fusion = "convex", rank_constant: float = RANK_CONSTANT
) -> list[tuple[Key, float]]:
    """Sum weight * trust * share over the sides, where a key that a side has not found has no share.

    "convex": the share is the cosine, clipped to 0..1, or the BM25 score / the best one of the list. The sum is divided
    by the weights, trust left aside: where little is near and few words match, all scores are low.
    "rrf": the share is (1 + rank_constant) / (rank + rank_constant); equal scores have the middle of their places. The
    sum is divided by the weights times the trust: 1 leads all lists, whatever the scores.

    :param sides: of the same question.
    :param fusion: one of the two.
    :param rank_constant: of "rrf": how little the first places count more than the next.
    :returns: (key, fused score from 0 to 1), best first. Ties: the lower key first.
    Source: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM TOIS 2023; Cormack, Clarke,
    Büttcher, "Reciprocal Rank Fusion", SIGIR 2009, with weights.

    >>> near, matching = Side([("a", 0.5), ("b", 0.25)], 1, "cosine"), Side([("b", 8.0), ("c", 6.0)], 3, "bm25")
    >>> fuse([near, matching])
    [('b', 0.8125), ('c', 0.5625), ('a', 0.125)]
    >>> fuse([near, matching], "rrf", rank_constant=0)
    [('b', 0.875), ('c', 0.375), ('a', 0.25)]
    """
    counted = [side for side in sides if side.weight * side.trust > 0]
    shares: dict[Key, list[float]] = {}
    for side in counted:
        for key, share in _relative_scores(side) if fusion == "convex" else _reciprocal_ranks(side, rank_constant):
            shares.setdefault(key, []).append(share)
    # fsum: the same shares from other lists must give the same sum, to the last bit.
    highest = math.fsum(side.weight * (1 if fusion == "convex" else side.trust) for side in sides)
    fused = [(key, math.fsum(parts) / highest) for key, parts in shares.items()]
    return sorted(fused, key=lambda item: (-item[1], item[0]))


def _relative_scores(side: Side[Key]) -> Iterator[tuple[Key, float]]:
    """Return weight * trust * share of each key by "convex"."""
    best = 1.0 if side.scale == "cosine" else max((score for _, score in side.hits), default=1.0)
    for key, score in side.hits:
        yield key, side.weight * side.trust * min(max(score / best, 0.0), 1.0)


def _reciprocal_ranks(side: Side[Key], rank_constant: float) -> Iterator[tuple[Key, float]]:
    """Return weight * trust * share of each key by "rrf", rounded once: what ties on paper must tie here."""
    highest, before = side.weight * side.trust * (1 + rank_constant), 0
    for _, tied in groupby(sorted(side.hits, key=itemgetter(1), reverse=True), key=itemgetter(1)):
        keys = [key for key, _ in tied]
        for key in keys:
            yield key, highest / (rank_constant + before + (len(keys) + 1) / 2)
        before += len(keys)
