"""The finished application: files in, ranked passages out, built from the components of `haystack_integrations`.

Importing this package imports neither torch nor Haystack: that waits until a name is used.
"""

TYPE_CHECKING = False  # not typing's: the command line handles Ctrl-C only once this file is imported

if TYPE_CHECKING:
    from bloomz_haystack.answering import Answerer
    from bloomz_haystack.indexing.index import index_files
    from bloomz_haystack.pipelines import ask_pipeline, index_pipeline
    from bloomz_haystack.settings import AskSettings, IndexSettings

__all__ = ["Answerer", "AskSettings", "IndexSettings", "ask_pipeline", "index_files", "index_pipeline"]

_MODULES = {
    "Answerer": "answering",
    "AskSettings": "settings",
    "IndexSettings": "settings",
    "index_files": "indexing.index",
}


def __getattr__(name: str) -> object:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'pipelines')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
