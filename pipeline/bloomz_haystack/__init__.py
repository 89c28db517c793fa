"""The finished application: files in, ranked passages out, built from the components of ``haystack_integrations``.

Importing this package imports neither torch nor Haystack: that waits until a builder is asked for.
"""

TYPE_CHECKING = False  # not typing's: the command line handles Ctrl-C only once this file is imported

if TYPE_CHECKING:
    from bloomz_haystack.pipelines import ask_pipeline, index_pipeline

__all__ = ["ask_pipeline", "index_pipeline"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from bloomz_haystack import pipelines

        return getattr(pipelines, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
