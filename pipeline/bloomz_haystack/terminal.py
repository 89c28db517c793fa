"""What every verb of the command line does: errors as one line, quiet libraries, notes on stderr.

Imports nothing heavy.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

SETTINGS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
NOISY = (
    "bm25s",
    "haystack",
    "pypdf",
    "trafilatura",
    "htmldate",
    "courlan",
    "justext",
    "transformers",
    "huggingface_hub",
)


@contextmanager
def one_line_errors(stopped: str) -> Iterator[None]:
    """Print an expected error as one line and leave with 2; Ctrl-C leaves with 130, a closed pipe in silence.

    :param stopped: what Ctrl-C left behind, in words.
    :yields: nothing.
    """
    if os.environ.get("BLOOMZ_DEBUG", "") not in ("", "0"):
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; {stopped}")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at exit
        raise typer.Exit(141) from None
    except Exception as error:
        if not _expected(error):
            raise
        say(" ".join(str(error).split()) or type(error).__name__)
        raise typer.Exit(2) from None


def _expected(error: Exception) -> bool:
    """Tell an error of the user's files, disk, model or arguments from a mistake of ours."""
    if isinstance(error, ValueError | OSError | FloatingPointError | MemoryError):
        return True
    if isinstance(error, ImportError):
        return "pip install" in str(error)  # an extra that is not installed; any other is our mistake
    names = {kind.__name__ for kind in type(error).__mro__}
    # By name: importing Haystack and torch here would cost seconds in every error message.
    return bool(names & {"DocumentStoreError", "FilterError", "OutOfMemoryError"})


def say(text: str) -> None:
    """Print a note on stderr.

    :param text: one line.
    """
    typer.echo(f"bloomz: {text}", err=True)


class _ToStderr(logging.Handler):
    """Warnings as notes; looks up sys.stderr each time, because the progress bar replaces it while it shows."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def quiet_libraries() -> None:
    """Silence what libraries print on stderr while they load and read; our own warnings pass."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStderr()])
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
