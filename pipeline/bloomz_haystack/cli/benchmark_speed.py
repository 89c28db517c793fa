"""``bloomz benchmark speed``: reads arguments, pins threads, calls ``measure_speed``, prints."""

import os
import sys
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, NOT_NEGATIVE
from bloomz_haystack.cli.benchmark import Json, Markdown, benchmark
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped


@benchmark.command()
def speed(
    shape: Annotated[str, typer.Option(help="Width of the random model: 560m, 3b or tiny.")] = "560m",
    layers: Annotated[
        int | None,
        typer.Option(help="Depth; default: cut to what takes about two minutes.", show_default=False, **INTEGER),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            help="Of every library; default: all cores of the process; 1 where others use them too.",
            show_default=False,
            **INTEGER,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; the median counts.", **INTEGER)] = 3,
    only: Annotated[
        str, typer.Option(help="Sections, separated by commas.", metavar="SECTIONS")
    ] = "encode,question,rerank,retrieve,write",
    passages: Annotated[
        int | None, typer.Option(help="Encoded; default: by shape.", show_default=False, **INTEGER)
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Reranked; default: by shape.", show_default=False, **INTEGER)
    ] = None,
    vectors: Annotated[int, typer.Option(help="Searched, of dimension 1024.", **INTEGER)] = 20_000,
    seed: Annotated[int, typer.Option(help="Of weights, texts and vectors.", **NOT_NEGATIVE)] = 0,
    as_markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Time ours and the alternatives side by side on random weights; a table, and in a pipe one JSON line after it."""
    with one_line_errors(stopped="nothing is kept"):
        quiet_libraries()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also those of loading and saving weights
        from bloomz_haystack.benchmark.speed.threads import choose_threads, pinned_threads

        sections = tuple(name.strip() for name in only.split(",") if name.strip())
        number = choose_threads(threads)
        with pinned_threads(number):
            from bloomz_haystack.benchmark.speed.sections import SpeedOptions, measure_speed
            from bloomz_haystack.benchmark.speed.table import as_json, markdown
            from bloomz_haystack.cli.console import on_terminal, show_markdown
            from bloomz_haystack.cli.output import print_json

            clean_up_when_stopped()
            options = SpeedOptions(shape, layers, device, number, rounds, sections, passages, candidates, vectors, seed)
            run = measure_speed(options, _tell if sys.stderr.isatty() else lambda _: None)
        if not json:
            show_markdown(markdown(run) + "\n", as_markdown)
        if json or not on_terminal(sys.stdout):
            print_json(as_json(run))


def _tell(what: str) -> None:
    say(what)
