"""`bloomz benchmark serve`: reads arguments, loads the services, prints."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, JsonOption, check_store
from bloomz_haystack.cli.benchmark_speed import MarkdownTable
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped

MOST_CLIENTS = 256


def serve_benchmark_verb(
    clients: Annotated[str, typer.Option(help="Clients at once, separated by commas.", metavar="NUMBERS")] = "1,8,32",
    seconds: Annotated[float, typer.Option(help="Length of each measurement.", min=0.1, max=60.0)] = 5.0,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", **INTEGER)] = 2,
    hayhooks_python: Annotated[
        Path | None,
        typer.Option(help="Python of an environment with hayhooks; default: it is left out.", show_default=False),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Store to search; default: the example passages.", show_default=False)
    ] = None,
    as_markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Load `bloomz serve`, a naive FastAPI endpoint and hayhooks in turn: answers a second, latencies, refusals."""
    with one_line_errors(stopped="nothing is kept"):
        numbers = _read_numbers(clients)
        if hayhooks_python is not None and not hayhooks_python.is_file():
            raise ValueError(f"--hayhooks-python {hayhooks_python} is no file: give the python of its environment")
        if store is not None:
            check_store(store)
        quiet_libraries()
        from bloomz_haystack.benchmark.speed.serve import ServeOptions, measure_serving, serve_markdown
        from bloomz_haystack.cli.console import show_markdown
        from bloomz_haystack.cli.output import print_json

        clean_up_when_stopped()
        options = ServeOptions(numbers, seconds, rounds, hayhooks_python, store)
        with tempfile.TemporaryDirectory(prefix="bloomz-serve-") as folder:
            rows = measure_serving(options, Path(folder), say if sys.stderr.isatty() else lambda _: None)
        if json:
            print_json({"rows": [row._asdict() for row in rows], "seconds": seconds, "rounds": rounds})
        else:
            show_markdown(serve_markdown(rows, options) + "\n", as_markdown)


def _read_numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and 1 <= int(part) <= MOST_CLIENTS for part in parts):
        raise ValueError(f"--clients must be numbers from 1 to {MOST_CLIENTS}, as 1,8,32, but got {text!r}")
    return tuple(map(int, parts))
