"""The command line: its verbs and the options before them. Nothing else is decided here.

Answers go to stdout, notes and errors to stderr, one line each. Torch and Haystack are imported inside the verbs, so
that `--help` does not wait for them.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import VerboseOption
from bloomz_haystack.cli.ask import ask_verb
from bloomz_haystack.cli.benchmark import benchmark
from bloomz_haystack.cli.copy import copy_verb
from bloomz_haystack.cli.embed import embed_verb
from bloomz_haystack.cli.errors import SETTINGS, mend_streams, show_traceback
from bloomz_haystack.cli.index import index_verb
from bloomz_haystack.cli.load import load_verb
from bloomz_haystack.cli.mine import mine
from bloomz_haystack.cli.serve import serve_verb
from bloomz_haystack.cli.signals import end_when_stopped, leave_at_once_when_stopped
from bloomz_haystack.cli.store import store_verbs
from bloomz_haystack.cli.train import train_verbs

SUMMARY = "Find and rank passages in French and English with the Bloomz models."

app = typer.Typer(help=SUMMARY, add_completion=False, **SETTINGS)
app.command("index")(index_verb)
app.command("ask")(ask_verb)
app.command("serve")(serve_verb)
app.command("copy")(copy_verb)
app.command("embed")(embed_verb)
app.command("load")(load_verb)
app.add_typer(train_verbs, name="train")
app.add_typer(benchmark, name="benchmark")
app.add_typer(store_verbs, name="store")
app.command("mine")(mine)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bloomz-haystack {version('bloomz-haystack')}")
        raise typer.Exit


@app.callback(help=SUMMARY)
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of errors (or set BLOOMZ_DEBUG=1).")
    ] = False,
    verbose: VerboseOption = False,
) -> None:
    """Read what stands before the verb."""
    if debug:
        os.environ["BLOOMZ_DEBUG"] = "1"


def main() -> None:
    """Run the command line."""
    # Before torch is imported: threads that spin while they wait lose 40 times the time on a busy core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # a pipeline that runs here tells nobody
    leave_at_once_when_stopped()
    mend_streams()
    try:
        app()
    except Exception as error:
        show_traceback(error)
        sys.exit(1)
    finally:
        end_when_stopped()


if __name__ == "__main__":
    main()
