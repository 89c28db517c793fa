"""Log-odds on held-out rows -> a scale and a shift that make them probabilities, written into the ranker's head.

No rank changes: Platt scaling (Platt 1999; Guo et al. 2017), fitted on the passage ranked first of each question, which
is the one that an answer shows.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from transformers import BloomForSequenceClassification

LEAST_SCALE = 0.05  # below it, log-odds tell next to nothing, and float16 would lose the ranks beside the shift
KEYS = ("calibration_scale", "calibration_shift")  # among the figures of a validation


def calibration(log_odds: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Fit ``scale * log_odds + shift`` by maximum likelihood.

    :param log_odds: (Q,) of the passage ranked first, one a question.
    :param right: (Q,) whether it answers.
    :returns: scale and shift under ``KEYS``; 1 and 0, which change nothing, where all are right or none, or higher
        log-odds are hardly more often right: a scale below 0 would turn the ranks around.
    Source: Platt 1999, with its targets a little inside 0 and 1, so that a perfect ranker keeps a finite scale.
    """
    odds = torch.tensor(log_odds, dtype=torch.float64)
    hits = int(right.sum())
    targets = torch.tensor(np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2)))
    fitted = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(fitted[0] * odds + fitted[1], targets)
        value.backward()
        return value

    optimizer.step(loss)
    scale, shift = map(float, fitted.detach())
    tells = scale >= LEAST_SCALE and 0 < hits < len(right)
    return dict(zip(KEYS, (scale, shift) if tells else (1.0, 0.0), strict=True))


@contextmanager
def calibrated(model: BloomForSequenceClassification, figures: dict[str, float]) -> Iterator[None]:
    """Let the model's log-odds be ``scale`` times what they are, plus ``shift``.

    The head has no bias, so the shift goes into the last layer norm's, along the difference of the two labels' rows.

    :param model: changed in place, and back, bit for bit.
    :param figures: of a validation; without ``KEYS`` nothing changes.
    """
    if not all(key in figures for key in KEYS):
        yield
        return
    scale, shift = (figures[key] for key in KEYS)
    head, bias = model.score.weight, model.transformer.ln_f.bias
    kept = [weight.detach().clone() for weight in (head, bias)]
    with torch.no_grad():
        towards = head[1] - head[0]
        bias += shift / scale * towards / towards.square().sum()
        head *= scale
        try:
            yield
        finally:
            for weight, before in zip((head, bias), kept, strict=True):
                weight.copy_(before)
