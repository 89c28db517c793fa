"""Ranks of one system -> how sure its figures are; of two systems -> whether they differ. Knows no corpus, no model."""

import numpy as np
import numpy.typing as npt
from scipy.stats import permutation_test

from bloomz_haystack.benchmark.figures.metrics import MEANS, NAMES, checked_ranks

# Bounds the memory of a batch of resamples, in elements of 8 bytes: 32 MB.
BATCH_ELEMENTS = 2**22


def bootstrap_intervals(
    ranks: npt.ArrayLike, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over the questions, of all figures at once.

    A resample of Q questions is a multinomial draw over the distinct ranks, of which there are far fewer than
    questions: the same law as drawing questions one by one, at a fraction of the cost.

    :param ranks: (Q,) from 1.
    :param resamples: how many times Q questions are drawn from the Q.
    :param level: of confidence, between 0 and 1.
    :param seed: of the draws.
    :returns: lowest and highest value for each of `metrics.NAMES`, in its unit.
    :raises ValueError: for broken ranks or a level outside 0..1.
    """
    ranks = checked_ranks(ranks)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, but got {level}")
    distinct, counts = np.unique(ranks, return_counts=True)
    means = _resampled_means(distinct, counts, resamples, np.random.default_rng(seed))
    variance = means.pop("square") - means["top_mean"] ** 2
    means["top_std"] = np.sqrt(np.maximum(variance, 0))
    edges = [(1 - level) / 2, (1 + level) / 2]
    return {name: (float(low), float(high)) for name in NAMES for low, high in [np.quantile(means[name], edges)]}


def _resampled_means(
    distinct: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> dict[str, npt.NDArray[np.float64]]:
    total = counts.sum()
    values = np.stack([*(value(distinct) for value in MEANS.values()), distinct**2], 1)  # (distinct, figures)
    step = max(1, BATCH_ELEMENTS // len(distinct))
    drawn = [
        rng.multinomial(total, counts / total, size=min(step, resamples - start)) @ values / total
        for start in range(0, resamples, step)
    ]
    return dict(zip([*MEANS, "square"], np.concatenate(drawn).T, strict=True))


def paired_p_value(ranks: npt.ArrayLike, others: npt.ArrayLike, resamples: int = 9_999, seed: int = 0) -> float:
    """Test whether two systems differ in mean reciprocal rank on the same questions, by swapping their ranks at random.

    :param ranks: (Q,) of one system.
    :param others: (Q,) of the other, same questions in the same order.
    :param resamples: random swaps; with few questions all swaps are tried instead.
    :param seed: of the swaps.
    :returns: two-sided p-value; 1 / (resamples + 1) is the smallest it can be.
    :raises ValueError: if the two are not as long.
    """
    one, other = 1 / checked_ranks(ranks), 1 / checked_ranks(others)
    if len(one) != len(other):
        raise ValueError(f"expected ranks of the same questions, but got {len(one)} and {len(other)}")
    differs = one != other  # equal pairs add nothing under any swap
    if differs.sum() < 2:
        return 1.0  # one difference is as large with its sign turned; scipy refuses a single one
    # Swapping the two systems of a question is turning the sign of their difference.
    result = permutation_test(
        ((one - other)[differs],),
        lambda difference, axis: difference.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_ELEMENTS // int(differs.sum())),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)
