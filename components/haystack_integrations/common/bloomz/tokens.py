"""Text -> token ids, as the Hugging Face tokenizer of the checkpoint would give them.

Enters: texts, or (context, question) pairs. Leaves: one int64 array of token ids a text, never empty.
Knows nothing of the model, of padding (there is none) or of Haystack.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

TokenIds = npt.NDArray[np.int64]


class SpecialTokens(NamedTuple):
    """The ids a tokenizer puts around its texts; all empty for the published Bloom checkpoints."""

    before: list[int]
    between: list[int]
    after: list[int]


class TokenizedTexts(NamedTuple):
    """Token ids of B texts, and the positions of those that lost their end to `max_length`."""

    token_ids: list[TokenIds]
    truncated: list[int]


class TokenizedPairs(NamedTuple):
    """Token ids of B pairs, and how many contexts and how many distinct questions lost their end to `max_length`.

    The first `kept` ids of a pair are those of `contexts`, which holds as much of each context as the shortest
    question would leave room for; pairs with the same context share one array.
    """

    token_ids: list[TokenIds]
    contexts: list[TokenIds]
    kept: list[int]
    truncated: int
    truncated_questions: int


def special_tokens(tokenizer: Tokenizer, *, pair: bool) -> SpecialTokens:
    """Read which special tokens the tokenizer adds, by asking it to encode a probe.

    :param tokenizer: a fast tokenizer.
    :param pair: whether two texts are joined (context, question) or one stands alone.
    :returns: the ids before, between and after the texts.
    """
    probe = tokenizer.encode("a", "a") if pair else tokenizer.encode("a")
    owners = probe.sequence_ids  # None marks a special token
    first = owners.index(0)
    last = len(owners) - owners[::-1].index(int(pair))
    between = [i for i, owner in zip(probe.ids[first:last], owners[first:last], strict=True) if owner is None]
    return SpecialTokens(probe.ids[:first], between, probe.ids[last:])


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], *, max_length: int, empty_token: int) -> TokenizedTexts:
    """Encode each text; a text longer than `max_length` loses its end.

    :param tokenizer: a fast tokenizer without truncation or padding set; it is only read, so threads may share it.
    :param texts: B texts, of any length.
    :param max_length: most tokens of a text, special tokens counted.
    :param empty_token: the id that stands for a text without any token (empty, for instance).
    :returns: B arrays of 1..max_length token ids.
    :raises ValueError: if `max_length` leaves no room beside the tokenizer's special tokens.
    """
    special = special_tokens(tokenizer, pair=False)
    room = max_length - len(special.before) - len(special.after)
    if room < 1:
        raise ValueError(f"max_length must leave room for at least 1 token, but got {max_length}")
    bodies = _encode(tokenizer, texts)
    empty = [] if special.before or special.after else [empty_token]
    token_ids = [_ids(special.before, body[:room] or empty, special.after) for body in bodies]
    return TokenizedTexts(token_ids, [place for place, body in enumerate(bodies) if len(body) > room])


def tokenize_pairs(
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    max_length: int,
    empty_token: int,
    cut_questions: bool = True,
) -> TokenizedPairs:
    """Join each context and its question, the context first.

    A pair that is too long loses the end of its context, down to a quarter of the room for both, and only then the end
    of its question: what is left of a long question still meets enough of a context to be compared with.

    :param tokenizer: a fast tokenizer without truncation or padding set.
    :param pairs: B pairs (context, question), in the order the Bloomz rerankers were trained with.
    :param max_length: most tokens of a pair, special tokens counted.
    :param empty_token: the id that stands for a pair without any token.
    :param cut_questions: False raises where a question would lose its end.
    :returns: B arrays of 1..max_length token ids.
    :raises ValueError: if `max_length` leaves no room for two tokens, or a question is too long and must not be cut.
    Source: model card of cmarkea/bloomz-560m-reranking (text = context, text_pair = question).
    """
    special = special_tokens(tokenizer, pair=True)
    room = max_length - sum(map(len, special))
    if room < 2:
        raise ValueError(f"max_length must leave room for a context and a question, but got {max_length}")
    bodies = _encode_distinct(tokenizer, [context for context, _ in pairs])
    questions = _encode_distinct(tokenizer, [question for _, question in pairs])
    contexts = {text: _beginning(special, body, max_length) for text, body in bodies.items()}
    token_ids, kept, truncated, cut = [], [], 0, set()
    for context, question in pairs:
        asked = questions[question]
        tail_length = min(len(asked), room - min(len(bodies[context]), max(room // 4, 1)))
        if tail_length < len(asked):
            cut.add(question)
            if not cut_questions:
                raise ValueError(
                    f"a question of {len(asked)} tokens leaves too little room for a context within "
                    f"max_length={max_length}: shorten the question, raise max_length, or let it be cut (truncate=True)"
                )
        truncated += len(bodies[context]) > room - tail_length
        beginning = contexts[context][: len(special.before) + room - tail_length]
        kept.append(len(beginning))
        ids = np.concatenate([beginning, _ids(special.between, asked[:tail_length], special.after)])
        token_ids.append(ids if len(ids) else np.asarray([empty_token], dtype=np.int64))
    return TokenizedPairs(token_ids, [contexts[context] for context, _ in pairs], kept, truncated, len(cut))


def tokenize_contexts(tokenizer: Tokenizer, contexts: Sequence[str], *, max_length: int) -> list[TokenIds]:
    """Encode contexts alone, as `tokenize_pairs` gives them.

    :param tokenizer: a fast tokenizer without truncation or padding set.
    :param contexts: B texts.
    :param max_length: most tokens of a pair, special tokens counted.
    :returns: B arrays of 0..max_length token ids, special tokens before the context included.
    """
    special = special_tokens(tokenizer, pair=True)
    return [_beginning(special, body, max_length) for body in _encode(tokenizer, contexts)]


def _beginning(special: SpecialTokens, body: list[int], max_length: int) -> TokenIds:
    room = max_length - sum(map(len, special))
    return _ids(special.before, body[: max(room, 0)])


def _encode_distinct(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, list[int]]:
    distinct = list(dict.fromkeys(texts))
    return dict(zip(distinct, _encode(tokenizer, distinct), strict=True))


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    try:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    except (TypeError, UnicodeEncodeError):
        # A lone surrogate cannot be written as UTF-8 and fails the whole batch: read it as "?", as str.encode does.
        readable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = tokenizer.encode_batch(readable, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def _ids(*parts: list[int]) -> TokenIds:
    return np.asarray([i for part in parts for i in part], dtype=np.int64)
