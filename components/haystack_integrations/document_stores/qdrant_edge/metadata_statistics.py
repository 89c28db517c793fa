"""Metadata of many documents -> what a user interface shows: fields, types, ranges, distinct values.

Computed in Python over the metadata; names and results are those of Haystack's `InMemoryDocumentStore`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from haystack_integrations.document_stores.qdrant_edge.async_twin import async_twin
from haystack_integrations.document_stores.qdrant_edge.facts import token

Meta = dict[str, Any]


def bare_name(field: str) -> str:
    """Give the metadata key of a field named with or without "meta."."""
    return field.removeprefix("meta.")


def count_unique(metas: Iterable[Meta], fields: list[str]) -> dict[str, int]:
    """Count the distinct values of each field; 1, 1.0 and True are one value, as in a Python set."""
    names = [bare_name(field) for field in fields]
    seen: dict[str, set[str]] = {name: set() for name in names}
    for meta in metas:
        for name in names:
            if meta.get(name) is not None:
                seen[name].add(token(meta[name]))
    return {name: len(tokens) for name, tokens in seen.items()}


def fields_info(metas: Iterable[Meta]) -> dict[str, dict[str, str]]:
    """Give the type of each field: boolean, int, float or keyword."""
    kinds: dict[type, str] = {bool: "boolean", int: "int", float: "float"}
    return {
        name: {"type": kinds.get(type(value), "keyword")}
        for meta in metas
        for name, value in meta.items()
        if value is not None
    }


def min_max(metas: Iterable[Meta], field: str) -> dict[str, Any]:
    """Give the smallest and the largest value; None for both when there is none, or text and numbers are mixed."""
    name = bare_name(field)
    values = [meta[name] for meta in metas if isinstance(meta.get(name), int | float | str)]
    try:
        return {"min": min(values, default=None), "max": max(values, default=None)}
    except TypeError:
        return {"min": None, "max": None}


def unique_values(
    metas: Iterable[Meta], field: str, search_term: str | None, from_: int, size: int
) -> tuple[list[Any], int]:
    """Give one page of the distinct values, in the order of their text, and how many there are in all."""
    name = bare_name(field)
    found: dict[tuple[str, str], Any] = {}
    for meta in metas:
        value = meta.get(name)
        if value is not None and (search_term or "").lower() in str(value).lower():
            found.setdefault((type(value).__name__, token(value)), value)
    ordered = sorted(found, key=lambda key: (str(found[key]), key[0]))
    return [found[key] for key in ordered[from_ : from_ + size]], len(ordered)


class MetadataStatistics:
    """The statistics as methods of a document store."""

    def _metas(self, filters: dict[str, Any] | None = None) -> Iterator[Meta]:
        raise NotImplementedError

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """Count the distinct values of metadata fields among the documents that match."""
        return count_unique(self._metas(filters), metadata_fields)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Give the metadata fields and their types."""
        return fields_info(self._metas())

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Give the smallest and the largest value of a metadata field."""
        return min_max(self._metas(), metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Give one page of the distinct values of a metadata field.

        :param metadata_field: with or without "meta.".
        :param search_term: keep the values whose text contains this, in any case.
        :param from_: first value of the page.
        :param size: most values on the page.
        :param filters: a Haystack filter.
        :returns: the values in the order of their text, and how many there are on all pages.
        """
        return unique_values(self._metas(filters), metadata_field, search_term, from_, size)

    count_unique_metadata_by_filter_async = async_twin(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = async_twin(get_metadata_fields_info)
    get_metadata_field_min_max_async = async_twin(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = async_twin(get_metadata_field_unique_values)
