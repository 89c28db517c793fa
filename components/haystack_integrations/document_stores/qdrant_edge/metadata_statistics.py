"""Metadata of many documents -> what a user interface shows: fields, types, ranges, distinct values.

Computed in Python over the metadata; names and results are those of Haystack's `InMemoryDocumentStore`.
"""

from collections.abc import Iterable
from typing import Any

from haystack_integrations.document_stores.qdrant_edge.facts import token

Meta = dict[str, Any]


def count_unique(metas: Iterable[Meta], fields: list[str]) -> dict[str, int]:
    """Return how many distinct values each field has; 1, 1.0 and True are one value, as in a Python set."""
    names = [_key(field) for field in fields]
    seen: dict[str, set[str]] = {name: set() for name in names}
    for meta in metas:
        for name in names:
            if meta.get(name) is not None:
                seen[name].add(token(meta[name]))
    return {name: len(tokens) for name, tokens in seen.items()}


def fields_info(metas: Iterable[Meta]) -> dict[str, dict[str, str]]:
    """Return the type of each field: boolean, int, float or keyword."""
    kinds: dict[type, str] = {bool: "boolean", int: "int", float: "float"}
    return {
        name: {"type": kinds.get(type(value), "keyword")}
        for meta in metas
        for name, value in meta.items()
        if value is not None
    }


def min_max(metas: Iterable[Meta], field: str) -> dict[str, Any]:
    """Return the smallest and the largest value; None for both when there is none, or text and numbers are mixed."""
    name = _key(field)
    values = [meta[name] for meta in metas if isinstance(meta.get(name), int | float | str)]
    try:
        return {"min": min(values, default=None), "max": max(values, default=None)}
    except TypeError:
        return {"min": None, "max": None}


def unique_values(
    metas: Iterable[Meta], field: str, search_term: str | None, from_: int, size: int
) -> tuple[list[Any], int]:
    """Return one page of the distinct values of a field, in the order of their text, and their total.

    :param metas: metadata of the documents.
    :param field: with or without "meta.".
    :param search_term: keep the values whose text contains this, in any case; None keeps all.
    :param from_: first value of the page.
    :param size: most values on the page.
    :returns: the values, and how many there are on all pages.
    """
    name = _key(field)
    found: dict[tuple[str, str], Any] = {}
    for meta in metas:
        value = meta.get(name)
        if value is not None and (search_term or "").lower() in str(value).lower():
            found.setdefault((type(value).__name__, token(value)), value)
    ordered = sorted(found, key=lambda key: (str(found[key]), key[0]))
    return [found[key] for key in ordered[from_ : from_ + size]], len(ordered)


def _key(field: str) -> str:
    return field.removeprefix("meta.")
