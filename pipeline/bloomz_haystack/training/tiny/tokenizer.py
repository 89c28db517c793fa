"""Texts -> a byte-level BPE tokenizer for a small French and English model.

Case and accents are dropped and every word starts with a space, after an apostrophe too, so that "l'Université" and
"universite" share their tokens, and names match across the two languages.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from haystack_integrations.common.bloomz.tokens import SpecialTokens, special_tokens

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>", "<pad>"]  # Bloom's own, in Bloom's order

# Words, numbers of up to four digits, single marks: white space itself is never a token.
_WORDS = Regex(r"\p{L}+|\p{N}{1,4}|[^\s\p{L}\p{N}]")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn the merges.

    :param texts: French and English texts.
    :param vocab_size: tokens, special ones counted.
    :returns: a tokenizer that pads on the left, as Bloom's does.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = SPECIAL_TOKENS[1]  # stands before every text: see bag_to_bloom.py
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A $B", special_tokens=[(start, 1)]
    )
    names = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)


def mark_pairs(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Let the tokenizer write its begin mark before the context and its end-of-text token before the question.

    The published rerankers have neither; a model of three layers needs the one to know how far a word stands from the
    beginning, the other to tell the question from the context.

    :param tokenizer: changed in place.
    :returns: the same tokenizer.
    """
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    marks = [(bos, tokenizer.bos_token_id), (eos, tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair=f"{bos} $A {eos} $B", special_tokens=marks
    )
    return tokenizer


def text_template(tokenizer: PreTrainedTokenizerFast) -> SpecialTokens:
    """Read what the tokenizer writes around a text.

    :param tokenizer: any fast one.
    :returns: the ids before and after.
    """
    return special_tokens(tokenizer.backend_tokenizer, pair=False)


def pair_template(tokenizer: PreTrainedTokenizerFast) -> SpecialTokens:
    """Read what the tokenizer writes around a pair.

    :param tokenizer: any fast one.
    :returns: the ids before, between and after.
    """
    return special_tokens(tokenizer.backend_tokenizer, pair=True)


def word_starts(tokenizer: PreTrainedTokenizerFast) -> npt.NDArray[np.bool_]:
    """Mark the tokens that start a word (byte-level BPE writes the space before it as "Ġ").

    :param tokenizer: byte-level.
    :returns: (V,) bool.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.asarray([token.startswith("Ġ") for token in tokens], dtype=bool)
