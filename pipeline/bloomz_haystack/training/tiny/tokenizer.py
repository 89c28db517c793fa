"""Texts -> a byte-level BPE tokenizer for a small French and English model.

Case and accents are dropped and every word starts with a space, after an apostrophe too, so that "l'Université" and
"universite" share their tokens, and names match across the two languages.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BLOOM_SPECIALS = ["<unk>", "<s>", "</s>", "<pad>"]  # Bloom's own, in Bloom's order

# Words, numbers of up to four digits, single marks: white space itself is never a token.
_WORDS = Regex(r"\p{L}+|\p{N}{1,4}|[^\s\p{L}\p{N}]")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on texts.

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
        special_tokens=BLOOM_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = BLOOM_SPECIALS[1]  # stands before every text: see bag_to_bloom.py
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A $B", special_tokens=[(start, 1)]
    )
    names = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), BLOOM_SPECIALS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)


def mark_pairs(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Make the tokenizer write its begin mark before the passage and its end-of-text token before the question.

    The published rerankers have neither; a model of three layers needs the one to know how far a word stands from the
    beginning, the other to tell the question from the passage.

    :param tokenizer: changed in place.
    :returns: the same tokenizer.
    """
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    marks = [(bos, tokenizer.bos_token_id), (eos, tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair=f"{bos} $A {eos} $B", special_tokens=marks
    )
    return tokenizer
