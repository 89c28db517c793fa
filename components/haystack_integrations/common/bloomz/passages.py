"""Content and chosen metadata of a document -> the one text that the models read.

Knows nothing of Haystack's Document: the embedder and the ranker hand over its parts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from haystack_integrations.common.bloomz.plain_text import plain_text


def passage_text(content: str | None, meta: Mapping[str, Any], fields: Sequence[str], separator: str) -> str:
    """Put the chosen metadata before the content, and write both in the one spelling that questions have.

    :param content: None counts as "".
    :param meta: metadata; a value that is None or absent is skipped, 0 and False are kept.
    :param fields: which keys of ``meta``, in this order.
    :param separator: stands between the parts.
    :returns: the text.

    >>> passage_text("Une île.", {"titre": "Bréhat", "page": 0, "note": None}, ["titre", "page", "note"], " | ")
    'Bréhat | 0 | Une île.'
    """
    chosen = [str(meta[field]) for field in fields if meta.get(field) is not None]
    return plain_text(separator.join([*chosen, content or ""]))
