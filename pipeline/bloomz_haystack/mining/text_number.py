"""A text -> a number that all its spellings share: an answer must not come back as a hard negative."""

import re
import unicodedata

from bloomz_haystack.training.data.rows import text_group
from haystack_integrations.common.bloomz.plain_text import plain_text

_NO_WORD = re.compile(r"[\W_]+")


def text_number(text: str) -> int:
    """Return the number of a text by its letters and digits.

    Case, the form of accents, quotes, dashes and spaces are ignored. Not `text_group`: training holds rows out by that
    number, so it must never change.

    :param text: any.
    :returns: 64 bits of a hash.

    >>> text_number("L’e\\u0301te\\u0301 : « chaud ».") == text_number('l\\'été: "chaud"')
    True
    """
    folded = unicodedata.normalize("NFKC", plain_text(text)).casefold()
    return text_group(_NO_WORD.sub(" ", folded).strip() or text)
