"""What the command line does about models: the Hub is asked only if needed, and the bundled pair is noted once."""

import os
import sys
from pathlib import Path

from bloomz_haystack.cli.errors import say
from bloomz_haystack.settings import PUBLISHED_RANKER, PUBLISHED_RETRIEVER, TINY_RANKER, TINY_RETRIEVER

NOTED_KEY = "noted"  # in the store's info: a store is noted once


def prepare_hub(*models: str) -> None:
    """Go offline if the Hub does not answer, and show its progress bars only where a person waits for a download.

    :param *models: that will be loaded.
    """
    from bloomz_haystack.models.hub_offline import stay_offline_if_unreachable

    needs_hub = stay_offline_if_unreachable(models, bundled=(TINY_RETRIEVER, TINY_RANKER))
    if not (needs_hub and sys.stderr.isatty()):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def note_tiny(store: Path, *models: str) -> None:
    """Print a note on stderr if a bundled model is in use, unless it was printed for this store before.

    :param store: folder; one that cannot be written is left alone, since its owner has read the note.
    :param *models: in use.
    """
    if not {TINY_RETRIEVER, TINY_RANKER} & set(models):
        return
    from haystack.document_stores.errors import DocumentStoreError

    from bloomz_haystack.store_folder import StoreFolder

    note = "the bundled tiny models are for trying things out; for real work: "
    note += f"--model {PUBLISHED_RETRIEVER} and --ranker {PUBLISHED_RANKER}"
    try:
        folder = StoreFolder(store)
        if NOTED_KEY in folder.info:
            return
        with folder.opened(wait=0) as documents:
            documents.update_info(**{NOTED_KEY: note})
    except (DocumentStoreError, OSError, ValueError):  # read-only, or in use elsewhere
        return
    say(note)
