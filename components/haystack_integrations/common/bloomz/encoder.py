"""Texts -> vectors: tokenise, pack, run the bi-encoder, in the order of the input.

The vector of a text is the final hidden state of its last token, so it does not depend on its neighbours.
Source: model card of cmarkea/bloomz-560m-retriever-v2. Knows nothing of Haystack.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from haystack_integrations.common.bloomz.batches import Progress, Vectors, last_states_in_batches, warn_truncated
from haystack_integrations.common.bloomz.checkpoint import Checkpoint
from haystack_integrations.common.bloomz.tokens import tokenize

OnTruncated = Callable[[list[int]], Any]

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
        """Return whether a text is read to its end.

        :param text: any.
        :returns: False if `encode` would cut it.
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
