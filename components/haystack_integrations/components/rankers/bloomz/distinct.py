"""Documents -> the distinct ones that can be ranked: one of each id, none without text, copies merged."""

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from haystack import Document

COPIES = "copies"  # the metadata field that names the other places of a text


def has_text(text: str) -> bool:
    """Return whether there is anything to rank: a letter or a digit, of any script.

    :param text: what the model would read.
    :returns: False for white space and for rules made of dashes or dots.

    >>> has_text("n° 7"), has_text(" ----- . . ."), has_text("東京")
    (True, False, True)
    """
    return any(character.isalnum() for character in text)


def best_of_each_id(documents: Iterable[Document]) -> list[Document]:
    """Keep one document of each id: the one with the best incoming score, the first of equals.

    :param documents: any number; one without a score counts as the worst.
    :returns: in the order in which their ids first came.
    """
    best: dict[str, Document] = {}
    for document in documents:
        kept = best.get(document.id)
        if kept is None or _incoming(document) > _incoming(kept):
            best[document.id] = document
    return list(best.values())


def merged_copies(documents: list[Document]) -> list[Document]:
    """Keep the first document of each text, and name the places of the others in its meta `copies`.

    Texts count as the same whatever their white space and the Unicode form of their accents.

    :param documents: best first; none is changed in place.
    :returns: as many as there are distinct texts, in the same order.
    """
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(_key(document), []).append(document)
    return [_with_copies(*group) for group in groups.values()]


def _with_copies(kept: Document, *others: Document) -> Document:
    if not others:
        return kept
    places: list[dict[str, Any]] = [{**other.meta, "id": other.id} for other in others]
    return replace(kept, meta={**kept.meta, COPIES: places})


def _key(document: Document) -> str:
    return " ".join(unicodedata.normalize("NFC", document.content or "").split())


def _incoming(document: Document) -> float:
    return -float("inf") if document.score is None else document.score
