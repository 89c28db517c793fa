"""What every verb of the command line does: errors as one line, quiet libraries, notes on stderr.

Imports nothing heavy. Whatever is printed goes through `printable`: it may quote a file's text or name.
"""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from bloomz_haystack.cli.signals import Terminated, forget_closed_pipe
from bloomz_haystack.files.printable import printable

NOISY = (
    "bm25s",
    "haystack",
    "haystack_integrations.document_stores.pgvector",
    "pypdf",
    "transformers",
    "huggingface_hub",
)


DATABASES = ("psycopg", "qdrant_client")  # their clients: what they raise is the server's word


@contextmanager
def one_line_errors(stopped: str) -> Iterator[None]:
    """Silence libraries, and print an expected error as one line with exit code 2; signals.py has the other codes.

    :param stopped: what Ctrl-C left behind, in words.
    :yields: nothing.
    """
    quiet_libraries()
    if os.environ.get("BLOOMZ_DEBUG", "") not in ("", "0"):
        yield
        return
    try:
        yield
        sys.stdout.flush()  # here, where a closed pipe is an exit code, and not when Python ends
    except KeyboardInterrupt as error:
        say(f"stopped; {stopped}")
        raise typer.Exit(143 if isinstance(error, Terminated) else 130) from None
    except BrokenPipeError:
        forget_closed_pipe()
        raise typer.Exit(141) from None
    except Exception as error:
        if not _expected(error):
            raise
        say(_reason(error) or type(error).__name__)
        forget_closed_pipe()  # the error may be that of stdout: a full disk
        raise typer.Exit(2) from None


def _reason(error: Exception) -> str:
    """Return the message in one line; with that of a server, which a document store may keep to itself."""
    reason, cause = " ".join(str(error).split()), error.__cause__
    words = " ".join(str(cause or "").split())
    return f"{reason.rstrip('.')}: {words}" if _of_database(cause) and words not in reason else reason


def _of_database(error: BaseException | None) -> bool:
    return type(error).__module__.partition(".")[0] in DATABASES


def _expected(error: Exception) -> bool:
    """Return whether an error comes from the user's files, disk, model, server or arguments, and not from a bug."""
    if isinstance(error, ValueError | OSError | FloatingPointError | MemoryError) or _of_database(error):
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
    typer.echo(f"bloomz: {printable(text)}", err=True)


def show_traceback(error: Exception) -> None:
    """Print a traceback as Python does, but printable.

    :param error: not expected, or shown because of `--debug`.
    """
    for line in "".join(traceback.format_exception(error)).splitlines():
        typer.echo(printable(line), err=True)


class OneLineGroup(TyperGroup):
    """Commands whose wrong arguments are one line too, instead of three with the usage."""

    def main(  # type: ignore[override]  # typer's has one more, for Windows
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "bloomz",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **settings: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Run a command; in standalone mode leave with its exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **settings)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **settings)
            sys.stdout.flush()
        except OSError as error:  # of printing: what else goes wrong is reported by the verbs
            if not (closed := isinstance(error, BrokenPipeError)):
                say(str(error))
            forget_closed_pipe()
            code = 141 if closed else 2
        except SystemExit:  # typer's own way to leave when the reader of its help has gone
            forget_closed_pipe()
            code = 141
        except typer.Abort:
            code = 130
        except Exception as error:
            if not hasattr(error, "format_message"):  # of click, whichever copy of it typer uses
                raise
            code = _refused(error)
        sys.exit(code or 0)


def _refused(error: Any) -> int:  # noqa: ANN401
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        message = re.sub(r"^Invalid value for '?(.+?)'?: must ", r"\1 must ", " ".join(error.format_message().split()))
        see = f" (see {context.command_path} --help)" if context else ""
        say((message if message[:2].isupper() else message[:1].lower() + message[1:]).rstrip(".") + see)
    return int(error.exit_code)


SETTINGS: dict[str, Any] = {
    "cls": OneLineGroup,
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}


def mend_streams() -> None:
    """Put what goes nowhere in the place of streams that the caller closed; a stdout not in UTF-8 shows what it can."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


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
