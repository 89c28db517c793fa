"""How fast are ranks computed, beside the matrix product alone? Random vectors; one JSON line on stdout.

python -m bloomz_haystack.benchmark.run.ranking_speed --questions 100000 --passages 1000000 --dimension 256
"""

import argparse
import json
import resource
import statistics
import sys
import time

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from bloomz_haystack.benchmark.run.ranking import BLOCK_BYTES, PASSAGES_PER_BLOCK, rank_vectors


def random_vectors(rows: int, dimension: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw unit vectors.

    :param rows: how many.
    :param dimension: D.
    :param rng: seeded.
    :returns: (rows, D) float32.
    """
    vectors = rng.standard_normal((rows, dimension), dtype=np.float32)
    for start in range(0, rows, 2**16):
        cut = vectors[start : start + 2**16]
        cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    return vectors


def product_rate(dimension: int, runs: int = 7) -> float:
    """Time the matrix product of one block, alone.

    :param dimension: D.
    :param runs: the median of so many.
    :returns: GFLOP/s.
    """
    questions = BLOCK_BYTES // (4 * PASSAGES_PER_BLOCK)
    one, other = torch.rand(questions, dimension), torch.rand(PASSAGES_PER_BLOCK, dimension)
    out = torch.empty(questions, PASSAGES_PER_BLOCK)
    seconds = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        torch.mm(one, other.T, out=out)
        seconds.append(time.perf_counter() - begun)
    return 2 * out.numel() * dimension / statistics.median(seconds[1:]) / 1e9


def measure(questions: int, passages: int, dimension: int, k: int, seed: int = 0) -> dict[str, float]:
    """Rank random passages for random questions, each near its right passage.

    :param questions: Q.
    :param passages: P.
    :param dimension: D.
    :param k: candidates kept.
    :param seed: of the vectors.
    :returns: sizes, seconds, GFLOP/s beside the product's own, peak resident memory in GB, mean reciprocal rank (%).
    """
    rng = np.random.default_rng(seed)
    targets, gold = random_vectors(passages, dimension, rng), rng.integers(0, passages, questions)
    queries = targets[gold] + 2 * random_vectors(questions, dimension, rng)
    before = product_rate(dimension)
    begun = time.perf_counter()
    with tqdm(total=questions * passages, unit=" scores", unit_scale=True, disable=None) as bar:
        ranking = rank_vectors(queries, targets, gold, "cosine", k, bar.update)
    seconds = time.perf_counter() - begun
    # The rate is taken before and after: on a shared machine one of them may be off.
    product = (before + product_rate(dimension)) / 2
    rate = 2 * questions * passages * dimension / seconds / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    sizes = {"questions": questions, "passages": passages, "dimension": dimension, "threads": torch.get_num_threads()}
    told = {"seconds": seconds, "gflops": rate, "product_gflops": product, "share": rate / product, "peak_rss_gb": peak}
    return (
        sizes
        | {name: round(value, 3) for name, value in told.items()}
        | {"mrr": round(float(100 * (1 / ranking.fair).mean()), 3)}
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure the speed and the memory of ranking random vectors.")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--threads", type=int, help="of the product and of the counting; default as torch chooses")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    told = measure(arguments.questions, arguments.passages, arguments.dimension, arguments.candidates)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
