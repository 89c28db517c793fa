"""Token ids -> last hidden states, in length-sorted batches; and what every reader of texts needs around them.

The shared types, the check that every number is finite, the warning for texts that were cut. Knows nothing of questions
or passages.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from haystack_integrations.common.bloomz.checkpoint import Checkpoint
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack, plan_batches
from haystack_integrations.common.bloomz.tokens import TokenIds

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

# Up to here the product with the weights is not busy by itself: 8 questions of 15 tokens together take a third of the
# time of one by one with bloomz-560m's widths, texts of 160 tokens as much as alone.
SHORT = 128  # tokens of a call
Progress = Callable[[int], Any]  # called with how many more are done


def last_states_in_batches(
    checkpoint: Checkpoint, token_ids: Sequence[TokenIds], batch_tokens: int
) -> Iterator[tuple[Places, Vectors]]:
    """Run the model over length-sorted batches.

    :param checkpoint: an open checkpoint; of a ranker, the body.
    :param token_ids: B arrays of token ids.
    :param batch_tokens: token budget of a batch.
    :yields: positions (b,) in `token_ids` and last hidden states (b, H) float32, batch by batch.
    :raises FloatingPointError: if the model gives a value that is not finite.
    """
    for batch in plan_batches([len(ids) for ids in token_ids], batch_tokens):
        states = _last_states(checkpoint, [token_ids[i] for i in batch])
        yield np.asarray(batch, dtype=np.int64), finite_vectors(states, checkpoint)


def _last_states(checkpoint: Checkpoint, token_ids: list[TokenIds]) -> torch.Tensor:
    """Run the model over one batch; a short one together with those of other threads that wait."""
    compute = partial(_computed_states, checkpoint)
    short = checkpoint.placement.device.type == "cpu" and sum(map(len, token_ids)) <= SHORT
    return checkpoint.short_calls.run(compute, token_ids) if short else compute(token_ids)


def _computed_states(checkpoint: Checkpoint, token_ids: list[TokenIds]) -> torch.Tensor:
    packed = pack(token_ids).to(checkpoint.placement.device)
    with torch.inference_mode():
        return last_hidden_states(checkpoint.model.base_model, packed)


def finite_vectors(states: torch.Tensor, checkpoint: Checkpoint) -> Vectors:
    """Bring hidden states to numpy.

    :param states: (B, H) on any device, in any dtype.
    :param checkpoint: what gave them, to be named.
    :returns: (B, H) float32.
    :raises FloatingPointError: if a value is not finite.
    """
    vectors = states.float().cpu().numpy()
    if not np.isfinite(vectors).all():
        raise FloatingPointError(
            f"{checkpoint.name} gave values that are not finite in {checkpoint.placement.dtype}: "
            "load it in float32 (model_kwargs={'dtype': 'float32'}); if it still does, its weights are broken"
        )
    return vectors


def warn_truncated(truncated: int, total: int, what: str, max_length: int) -> None:
    """Log how many texts lost their end, one warning a call.

    :param truncated: how many did.
    :param total: of how many.
    :param what: "texts" or "contexts".
    :param max_length: the limit, in tokens.
    """
    if truncated:
        logger.warning("%d of %d %s were longer than %d tokens and lost their end", truncated, total, what, max_length)
