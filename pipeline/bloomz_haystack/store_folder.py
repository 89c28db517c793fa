"""The folder of a Qdrant Edge store: what `store.json` says, and the lock that one process holds on it.

The only module above the components that knows of Edge. Vectors of two models cannot be compared, and the numbers would
not show it: so a store remembers its retriever.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bloomz_haystack.settings import INDEXED_FIELDS
from haystack_integrations.common.bloomz.identity import model_name
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY
from haystack_integrations.document_stores.qdrant_edge.store_json import read_description


class StoreFolder:
    """A store seen from outside: `store.json`, read once; nothing is opened."""

    def __init__(self, path: str | Path) -> None:
        """Read `store.json`.

        :param path: folder of the store; it may not exist.
        :raises ValueError: if it holds something else.
        :raises DocumentStoreError: if it is damaged, or made by another version.
        """
        self.path = Path(path)
        self.description = read_description(self.path)

    @property
    def info(self) -> dict[str, str]:
        """What the application keeps with the store."""
        return self.description.info if self.description else {}

    @property
    def dimension(self) -> int | None:
        """Numbers in a vector; None if there is no store yet."""
        return self.description.embedding_dim if self.description else None

    def check_exists(self) -> int:
        """Refuse a store that is not there.

        :returns: the numbers in a vector.
        :raises ValueError: if there is no store.
        """
        if self.dimension is None:
            raise ValueError(f"no store at {self.path}: make one with: bloomz index PATH --store {self.path}")
        return self.dimension

    def retriever(self, model: str | None, default: str | None = None) -> str:
        """Return the retriever to use: the one asked for if it made the store; else the store's own; else the default.

        :param model: what the user asked for, if anything.
        :param default: for a store that names no model; None: the user must name one.
        :returns: its name or folder.
        :raises ValueError: if the store was made with another model, or no model is known.
        """
        own = self.info.get(MODEL_KEY)
        if own is None:
            if (chosen := model or default) is None:
                raise ValueError(
                    f"the store at {self.path} does not say which model made it: name it with --model, or index into "
                    "it first"
                )
            return model_name(chosen)
        if model is not None and model_name(model) != own:
            raise ValueError(
                f"the store at {self.path} was made with the model {own}; vectors of {model} cannot be compared with "
                "its vectors: leave --model out, or index into another --store"
            )
        return own

    def hybrid(self, wanted: bool | None) -> bool:
        """Return whether to search by words too: as asked, else if the store has a BM25 index.

        :param wanted: what the user asked for, if anything.
        :returns: whether to.
        :raises ValueError: if it is asked for and the store has none.
        """
        has_words = self.description is not None and self.description.hybrid
        if wanted and not has_words:
            raise ValueError(
                f"the store at {self.path} keeps no words to search: add them with bloomz index PATH --store "
                f"{self.path} --hybrid, which embeds nothing again, or leave --hybrid out"
            )
        return has_words if wanted is None else wanted

    @contextmanager
    def opened(self, wait: float = 30.0) -> Iterator[QdrantEdgeDocumentStore]:
        """Open the store as it was made.

        :param wait: seconds to wait for another process that holds it.
        :yields: the store; closed afterwards.
        :raises ValueError: if there is none.
        """
        store = QdrantEdgeDocumentStore(
            str(self.path),
            self.check_exists(),
            datatype=self.description.datatype,  # type: ignore[union-attr, arg-type]  # checked by the store
            indexed_meta_fields=list(INDEXED_FIELDS),
        )
        with StoreHold(store, wait).held():
            yield store


class StoreHold:
    """The lock on a store's folder, held while at least one thread needs it."""

    def __init__(self, store: QdrantEdgeDocumentStore, wait: float) -> None:
        """Hold nothing yet.

        :param store: to open and close.
        :param wait: seconds to wait for another process that holds it.
        """
        self.store, self.wait = store, wait
        self._holders = 0
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the store open; the last thread to leave closes it.

        :yields: nothing.
        :raises DocumentStoreError: if another process holds it for longer than `wait`.
        """
        with self._lock:
            self.store.open(wait=self.wait)
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self.store.close()


def store_hold(retriever: object, wait: float) -> StoreHold | None:
    """Return the hold on a retriever's store, if it is one of Qdrant Edge.

    :param retriever: a Haystack component.
    :param wait: seconds to wait for another process that holds the store.
    :returns: the hold; None for any other store, which many processes may use.
    :raises ValueError: if there is no store at the path.
    """
    store = getattr(retriever, "document_store", None)
    return StoreHold(store, wait) if isinstance(store, QdrantEdgeDocumentStore) else None
