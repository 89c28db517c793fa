"""Contexts and tails -> last hidden states, batch by batch, taking from the prefix cache what it holds.

What is held is continued; what is not is computed whole and kept on the way, in the same forward. Knows how a
checkpoint becomes a cache; knows nothing of questions or scores.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from haystack_integrations.common.bloomz.batches import Places, Progress, Vectors, finite_vectors
from haystack_integrations.common.bloomz.checkpoint import Checkpoint
from haystack_integrations.common.bloomz.packing import pack, plan_batches
from haystack_integrations.common.bloomz.prefix_cache.cache import PrefixCache, Wanted
from haystack_integrations.common.bloomz.prefix_cache.folder import PrefixFolder, prefix_key, weights_fingerprint
from haystack_integrations.common.bloomz.prefix_cache.forward import (
    prefix_shape,
    states_after_prefixes,
    states_keeping_prefixes,
)
from haystack_integrations.common.bloomz.prefix_cache.states import StoreDtype
from haystack_integrations.common.bloomz.tokens import TokenIds

logger = logging.getLogger(__name__)


class PrefixSettings(NamedTuple):
    """How much is kept, where and in what dtype."""

    budget: int  # bytes
    folder: str | None = None  # None: in memory
    store_dtype: StoreDtype = "float16"


class Pieces(NamedTuple):
    """A text in two: the first `kept` tokens of `context`, then `tail`; neither is empty."""

    context: TokenIds
    kept: int
    tail: TokenIds


class PrefixBatches:
    """The prefix cache of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, batch_tokens: int, settings: PrefixSettings) -> None:
        """Open the cache.

        :param checkpoint: weights; hashed if there is a folder.
        :param batch_tokens: tokens computed together.
        :param settings: budget, folder, dtype.
        :raises ValueError: if the folder cannot be made.
        """
        self.checkpoint, self.batch_tokens = checkpoint, batch_tokens
        body = checkpoint.model.base_model
        self._shape = prefix_shape(body, settings.store_dtype)
        folder = PrefixFolder(settings.folder) if settings.folder is not None else None
        # In memory all keys are of this checkpoint: 2 s saved at the start of bloomz-560m.
        self._fingerprint = "" if folder is None else weights_fingerprint(body, self._shape)
        self.cache = PrefixCache(settings.budget, folder)

    def last_states(self, texts: Sequence[Pieces]) -> Iterator[tuple[Places, Vectors]]:
        """Run the model over texts, the held ones first.

        :param texts: B texts in two pieces.
        :yields: positions (b,) in `texts` and last hidden states (b, H) float32, batch by batch.
        :raises FloatingPointError: if the model gives a value that is not finite.
        """
        wanted = [Wanted(prefix_key(self._fingerprint, text.context), text.kept) for text in texts]
        cold: list[int] = []
        for batch in plan_batches([len(text.tail) for text in texts], self.batch_tokens):
            with self.cache.hold([wanted[i] for i in batch]) as found:
                held = [(i, states) for i, states in zip(batch, found, strict=True) if states is not None]
                cold += [i for i, states in zip(batch, found, strict=True) if states is None]
                if not held:
                    continue
                packed = pack([texts[i].tail for i, _ in held]).to(self.checkpoint.placement.device)
                with torch.inference_mode():
                    prefixes, lengths = [states for _, states in held], [texts[i].kept for i, _ in held]
                    states = states_after_prefixes(self.checkpoint.model.base_model, packed, prefixes, lengths)
            yield np.asarray([i for i, _ in held], dtype=np.int64), finite_vectors(states, self.checkpoint)
        lengths = [texts[i].kept + len(texts[i].tail) for i in cold]
        for batch in plan_batches(lengths, self.batch_tokens):
            places = [cold[place] for place in batch]
            joined = [np.concatenate([texts[i].context[: texts[i].kept], texts[i].tail]) for i in places]
            yield np.asarray(places, dtype=np.int64), self._keep([wanted[i] for i in places], joined)

    def warm(self, contexts: Sequence[TokenIds], progress: Progress | None = None) -> None:
        """Keep contexts before any question is asked; those already held are left as they are.

        :param contexts: B arrays of token ids, none empty.
        :param progress: called with the number of contexts done, after each batch.
        :raises FloatingPointError: if the model gives a value that is not finite.
        """
        wanted = [Wanted(prefix_key(self._fingerprint, context), len(context)) for context in contexts]
        missing = [i for i, one in enumerate(wanted) if not self.cache.holds(one)]
        if progress:
            progress(len(contexts) - len(missing))
        for batch in plan_batches([len(contexts[i]) for i in missing], self.batch_tokens):
            places = [missing[place] for place in batch]
            self._keep([wanted[i] for i in places], [contexts[i] for i in places])
            if progress:
                progress(len(places))
        held = sum(self.cache.holds(one) for one in wanted)
        if held < len(wanted):
            budget = self.cache.budget
            logger.warning(
                "a prefix cache of %d bytes holds %d of %d contexts: raise prefix_cache", budget, held, len(wanted)
            )

    def _keep(self, wanted: Sequence[Wanted], token_ids: Sequence[TokenIds]) -> Vectors:
        device = self.checkpoint.placement.device
        with self.cache.make(wanted, self._shape, device) as made, torch.inference_mode():
            packed = pack(token_ids).to(device)
            return finite_vectors(
                states_keeping_prefixes(self.checkpoint.model.base_model, packed, made), self.checkpoint
            )
