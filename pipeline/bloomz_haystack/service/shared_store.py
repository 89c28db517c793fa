"""A document store that others may use too, as a pipeline names it: what the service needs of it, to read."""

from pathlib import Path
from typing import Any

from bloomz_haystack.stores import PlainStore


class SharedStore(PlainStore):
    """What a store holds, file by file, for the catalog; who writes to it keeps the list of files elsewhere."""

    def __init__(self, documents: Any, pipeline: Path) -> None:  # noqa: ANN401
        """Wrap a store.

        :param documents: of an integration with the usual look-ups in metadata, as those of PostgreSQL and Qdrant.
        :param pipeline: the YAML file that names it.
        """
        super().__init__(documents)
        self.folder = pipeline.with_suffix(".only-read")  # there is none

    def get_metadata_field_unique_values(
        self, field: str, *, size: int = 10, filters: dict[str, Any] | None = None
    ) -> tuple[list[Any], int]:
        """Return distinct values of a metadata field, and their total.

        :param field: its name.
        :param size: most values.
        :param filters: among the passages that match; None: all.
        :returns: both.
        """
        values, total = self.documents.get_metadata_field_unique_values(field, size=size, filters=filters)  # type: ignore[attr-defined]
        return [value for value in values if value is not None], total
