"""Texts -> vectors: tokenise, pack, run the bi-encoder, in the order of the input.

The vector of a text is the final hidden state of its last token, so it does not depend on its neighbours.
Source: model card of cmarkea/bloomz-560m-retriever-v2. Knows nothing of Haystack.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from haystack_integrations.common.bloomz.checkpoint import Checkpoint
from haystack_integrations.common.bloomz.forward import last_hidden_states
from haystack_integrations.common.bloomz.packing import pack, plan_batches
from haystack_integrations.common.bloomz.tokens import TokenIds, tokenize

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]
Progress = Callable[[int], Any]
OnTruncated = Callable[[list[int]], Any]
Places = npt.NDArray[np.int64]

WINDOW = 4096  # texts tokenised and length-sorted together: bounds the memory of a long list


class Encoder:
    """Encode texts with a checkpoint opened for "embed"."""

    def __init__(self, checkpoint: Checkpoint, *, max_length: int | None = None, batch_tokens: int = 2048) -> None:
        """Keep the settings.

        :param checkpoint: weights and tokenizer.
        :param max_length: tokens kept of a text; None takes the checkpoint's own.
        :param batch_tokens: tokens computed together; about 1,024 to 2,048 is best on a CPU.
        """
        self.checkpoint = checkpoint
        self.max_length = max_length if max_length is not None else checkpoint.max_length
        self.batch_tokens = batch_tokens

    @property
    def dimension(self) -> int:
        """H, numbers in a vector."""
        return int(self.checkpoint.model.config.hidden_size)

    def fits(self, text: str) -> bool:
        """Tell whether a text is read to its end.

        :param text: any.
        :returns: False if ``encode`` would cut it.
        """
        tokens = tokenize(
            self.checkpoint.tokenizer,
            [text],
            max_length=self.max_length,
            empty_token=self.checkpoint.empty_token,
        )
        return not tokens.truncated

    def encode(
        self,
        texts: Sequence[str],
        *,
        normalize: bool = True,
        progress: Progress | None = None,
        on_truncated: OnTruncated | None = None,
    ) -> Vectors:
        """Embed texts.

        :param texts: B texts; one without any token (empty, white space) embeds as the end-of-text token.
        :param normalize: give unit vectors; False gives the raw hidden states (L2 distance of the v1 retrievers).
        :param progress: called with the number of texts done, after each batch.
        :param on_truncated: called with the positions of the texts that lost their end, if any did; None logs one
            warning.
        :returns: (B, H) float32, in the order of the texts.
        :raises FloatingPointError: if the model gives a value that is not finite.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        truncated: list[int] = []
        for start in range(0, len(texts), WINDOW):
            tokens = tokenize(
                self.checkpoint.tokenizer,
                texts[start : start + WINDOW],
                max_length=self.max_length,
                empty_token=self.checkpoint.empty_token,
            )
            truncated += [start + place for place in tokens.truncated]
            for places, states in last_states_in_batches(self.checkpoint, tokens.token_ids, self.batch_tokens):
                vectors[start + places] = states
                if progress:
                    progress(len(places))
        if on_truncated is None:
            warn_truncated(len(truncated), len(texts), "texts", self.max_length)
        elif truncated:
            on_truncated(truncated)
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def last_states_in_batches(
    checkpoint: Checkpoint, token_ids: Sequence[TokenIds], batch_tokens: int
) -> Iterator[tuple[Places, Vectors]]:
    """Run the model over length-sorted batches.

    :param checkpoint: an open checkpoint; of a ranker, the body.
    :param token_ids: B arrays of token ids.
    :param batch_tokens: token budget of a batch.
    :yields: positions (b,) in ``token_ids`` and last hidden states (b, H) float32, batch by batch.
    :raises FloatingPointError: if the model gives a value that is not finite.
    """
    body = checkpoint.model.base_model
    for batch in plan_batches([len(ids) for ids in token_ids], batch_tokens):
        packed = pack([token_ids[i] for i in batch]).to(checkpoint.placement.device)
        with torch.inference_mode():
            states = last_hidden_states(body, packed)
        yield np.asarray(batch, dtype=np.int64), finite_vectors(states, checkpoint)


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
    """Say once a call how many texts lost their end.

    :param truncated: how many did.
    :param total: of how many.
    :param what: "texts" or "contexts".
    :param max_length: the limit, in tokens.
    """
    if truncated:
        logger.warning("%d of %d %s were longer than %d tokens and lost their end", truncated, total, what, max_length)
