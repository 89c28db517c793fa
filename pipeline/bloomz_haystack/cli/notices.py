"""What a user is told once a store, and not again: the store remembers it."""

from haystack.document_stores.errors import DocumentStoreError

from bloomz_haystack.cli.errors import say
from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

NOTED_KEY = "noted"  # in what the store remembers for the application


def say_once(store: QdrantEdgeDocumentStore, note: str) -> None:
    """Print a note on stderr, unless it was printed for this store before.

    :param store: remembers it; one that cannot be written is left alone, since who made it has read the note.
    :param note: one line.
    """
    try:
        if NOTED_KEY in store.read_info():
            return
        store.update_info(**{NOTED_KEY: note})
    except (DocumentStoreError, OSError, ValueError):  # read-only, or in use elsewhere
        return
    say(note)
