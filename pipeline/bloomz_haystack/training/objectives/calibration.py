"""Log-odds on held-out rows -> a scale and a shift that make them probabilities, written into the ranker's head.

No rank changes: Platt scaling (Platt 1999; Guo et al. 2017), fitted on the passage ranked first of each question, which
is the one that an answer shows. A calibrated ranker also gets a threshold to recommend: 0.5, as likely right as wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from transformers import BloomForSequenceClassification

LEAST_SCALE = 0.05  # below it, log-odds say next to nothing, and float16 would lose the ranks beside the shift
KEYS = ("calibration_scale", "calibration_shift")  # among the figures of a validation
CALIBRATED_THRESHOLD = 0.5
_UNCHANGED = (1.0, 0.0)


def calibration_figures(
    wanted: Literal["fit"] | tuple[float, ...], log_odds: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Return the scale and shift of a run, as configured.

    :param wanted: "fit", a scale and a shift, or an empty tuple for no calibration.
    :param log_odds: (Q,) of the passage ranked first, one per question.
    :param right: (Q,) whether it answers.
    :returns: scale and shift under `KEYS`, or nothing.
    """
    if not wanted:
        return {}
    return dict(zip(KEYS, platt_scaling(log_odds, right) if wanted == "fit" else wanted, strict=True))


def platt_scaling(log_odds: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the maximum-likelihood scale and shift of `scale * log_odds + shift`.

    :param log_odds: (Q,) of the passage ranked first, one per question.
    :param right: (Q,) whether it answers.
    :returns: scale and shift; 1 and 0, which change nothing, where all are right or none, or higher log-odds are hardly
        more often right: a scale below 0 would turn the ranks around.
    Source: Platt 1999, with its targets a little inside 0 and 1, so that a perfect ranker keeps a finite scale.
    """
    odds = torch.tensor(log_odds, dtype=torch.float64)
    hits = int(right.sum())
    targets = torch.tensor(np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2)))
    fitted = torch.tensor(_UNCHANGED, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(fitted[0] * odds + fitted[1], targets)
        value.backward()
        return value

    optimizer.step(loss)
    scale, shift = map(float, fitted.detach())
    return (scale, shift) if scale >= LEAST_SCALE and 0 < hits < len(right) else _UNCHANGED


@contextmanager
def calibrated(model: BloomForSequenceClassification, figures: dict[str, float]) -> Iterator[None]:
    """Make the model's log-odds `scale` times what they are, plus `shift`, and let its config recommend a threshold.

    The head has no bias, so the shift goes into the last layer norm's, along the difference of the two labels' rows.

    :param model: changed in place, and back, bit for bit.
    :param figures: of a validation; without `KEYS`, or where they change nothing, nothing is done.
    """
    scale, shift = (figures.get(key, unchanged) for key, unchanged in zip(KEYS, _UNCHANGED, strict=True))
    if (scale, shift) == _UNCHANGED:
        yield
        return
    head, bias = model.score.weight, model.transformer.ln_f.bias
    kept = [weight.detach().clone() for weight in (head, bias)]
    with torch.no_grad():
        towards = head[1] - head[0]
        bias += shift / scale * towards / towards.square().sum()
        head *= scale
        model.config.score_threshold = CALIBRATED_THRESHOLD
        try:
            yield
        finally:
            del model.config.score_threshold
            for weight, before in zip((head, bias), kept, strict=True):
                weight.copy_(before)
