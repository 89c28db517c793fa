"""A text -> a number that all its spellings share: what answers a question must not come back as its hard negative."""

import re
import unicodedata

from bloomz_haystack.training.data.rows import text_group
from haystack_integrations.common.bloomz.plain_text import plain_text

_NO_WORD = re.compile(r"[\W_]+")


def text_number(text: str) -> int:
    """Number a text by its letters and digits: case, accents in two parts, quotes, dashes and spaces do not count.

    Not ``text_group``, by whose numbers training sets rows aside for validation: a run must find the same rows again.

    :param text: any.
    :returns: 64 bits of a hash.

    >>> text_number("L’e\\u0301te\\u0301 : « chaud ».") == text_number('l\\'été: "chaud"')
    True
    """
    folded = unicodedata.normalize("NFKC", plain_text(text)).casefold()
    return text_group(_NO_WORD.sub(" ", folded).strip() or text)
