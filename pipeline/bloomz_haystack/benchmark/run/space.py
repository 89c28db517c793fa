"""Vectors and a metric -> scores, one block of a matrix product at a time. Knows nothing of ranks."""

import numpy as np
import numpy.typing as npt
import torch

METRICS = ("cosine", "l2", "dot")
# Of the product of the norms. The largest error seen of a float32 product, of 256..2560 terms: 1.0e-6 where cosines are
# about 0.9, 2e-7 where they are about 0.
ROUNDING = 1e-6


class Space:
    """Vectors and a metric; every score is one matrix product away.

    l2 is ranked by ``q.p - |p|^2 / 2``, which falls as the distance grows, after moving the passages' mean to the
    origin: vectors of a language model share a large mean, and its square would eat the last digits of the differences.
    """

    def __init__(self, queries: npt.NDArray[np.floating], passages: npt.NDArray[np.floating], metric: str) -> None:
        """Check the vectors and measure what the metric needs.

        :param queries: (Q, D).
        :param passages: (P, D).
        :param metric: one of ``METRICS``.
        :raises ValueError: for shapes that do not fit, an unknown metric, NaN or infinity.
        """
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r} is not known: choose from {', '.join(METRICS)}")
        if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
            raise ValueError(f"expected (Q, D) and (P, D) vectors, but got {queries.shape} and {passages.shape}")
        self.queries, self.passages, self.metric = queries, passages, metric
        for name, vectors in (("question", queries), ("passage", passages)):
            _check_finite(name, vectors)
        size, d = 2**16, queries.shape[1]
        self.mean = np.zeros(d, np.float32)
        if metric == "l2":
            sums = [passages[i : i + size].sum(0, dtype=np.float64) for i in range(0, len(passages), size)]
            self.mean = (np.sum(sums, 0) / len(passages)).astype(np.float32)

    def queries_at(self, rows: slice) -> npt.NDArray[np.float32]:
        """Give queries ready for the product.

        :param rows: which.
        :returns: (R, D) float32.
        """
        return self._ready(self.queries[rows])

    def scores(self, asked: npt.NDArray[np.float32], rows: slice, room: torch.Tensor) -> npt.NDArray[np.float32]:
        """Multiply.

        :param asked: (R, D) from ``queries_at``.
        :param rows: which passages.
        :param room: memory for at least R times M float32, used again and again: new pages are slow.
        :returns: (R, M) float32, a view of ``room``.
        """
        ready = torch.from_numpy(self._ready(self.passages[rows]))
        out = room[: len(asked) * len(ready)].view(len(asked), len(ready))
        if self.metric == "l2":
            torch.addmm(-ready.square().sum(1) / 2, torch.from_numpy(asked), ready.T, out=out)
        else:
            torch.mm(torch.from_numpy(asked), ready.T, out=out)
        return out.numpy()

    def bracket(
        self, asked: npt.NDArray[np.float32], gold: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Score the right passages, less and plus what rounding may do.

        :param asked: (R, D) from ``queries_at``.
        :param gold: (R,) right passages.
        :returns: (R,) lowest and (R,) highest score that counts as equal.
        """
        right = self._ready(self.passages[gold]).astype(np.float64)
        own, half = np.einsum("rd,rd->r", asked, right), np.einsum("rd,rd->r", right, right) / 2
        margin = ROUNDING * np.linalg.norm(asked, axis=1) * np.linalg.norm(right, axis=1)
        if self.metric == "l2":
            own, margin = own - half, margin + ROUNDING * half
        return (own - margin).astype(np.float32), (own + margin).astype(np.float32)

    def told(self, scores: npt.NDArray[np.float32], asked: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn scores of the product into those of the metric.

        :param scores: (R, M).
        :param asked: (R, D) from ``queries_at``.
        :returns: (R, M): cosine, dot product or minus the distance.
        """
        if self.metric != "l2":
            return scores
        return -np.sqrt(np.maximum(np.square(asked).sum(1, keepdims=True) - 2 * scores, 0))

    def _ready(self, vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        ready = np.ascontiguousarray(vectors, np.float32)
        if self.metric == "l2":
            return ready - self.mean
        if self.metric == "dot":
            return ready
        norms = np.sqrt(np.einsum("rd,rd->r", ready, ready))[:, None]  # no squares in memory, unlike linalg.norm
        norms[norms == 0] = 1  # a vector of zeros is equally far from all
        return np.divide(ready, norms, dtype=np.float32)


def _check_finite(name: str, vectors: npt.NDArray[np.floating]) -> None:
    size = 2**16
    for start in range(0, len(vectors), size):
        broken = ~np.isfinite(vectors[start : start + size]).all(1)
        if broken.any():
            place = start + int(broken.argmax())
            raise ValueError(f"the vector of {name} {place}, counted from 0, holds NaN or infinity")
