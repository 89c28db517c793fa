"""A tokenizer -> what it writes around texts and pairs, and which of its tokens start a word."""

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

from haystack_integrations.common.bloomz.tokens import SpecialTokens, special_tokens


def text_template(tokenizer: PreTrainedTokenizerFast) -> SpecialTokens:
    """Return what the tokenizer writes around a text.

    :param tokenizer: any fast one.
    :returns: the ids before and after.
    """
    return special_tokens(tokenizer.backend_tokenizer, pair=False)


def pair_template(tokenizer: PreTrainedTokenizerFast) -> SpecialTokens:
    """Return what the tokenizer writes around a pair.

    :param tokenizer: any fast one.
    :returns: the ids before, between and after.
    """
    return special_tokens(tokenizer.backend_tokenizer, pair=True)


def word_starts(tokenizer: PreTrainedTokenizerFast) -> npt.NDArray[np.bool_]:
    """Return which tokens start a word (byte-level BPE writes the space before it as "Ġ").

    :param tokenizer: byte-level.
    :returns: (V,) bool.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.asarray([token.startswith("Ġ") for token in tokens], dtype=bool)
