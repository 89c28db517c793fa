"""`bloomz benchmark speed` and `growth`: read arguments, pin threads, measure, print and draw."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, NOT_NEGATIVE, JsonOption
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped

MarkdownTable = Annotated[bool, typer.Option("--markdown", help="Print Markdown on a terminal too, as a pipe gets it.")]


def speed(
    shape: Annotated[str, typer.Option(help="Width of the random model: 560m, 3b or tiny.")] = "560m",
    layers: Annotated[
        int | None,
        typer.Option(help="Depth; default: cut to about two minutes of work.", show_default=False, **INTEGER),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads for every library; default: all cores, 1 with --quick; use 1 on a busy machine.",
            show_default=False,
            **INTEGER,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; the median is reported.", **INTEGER)] = 3,
    only: Annotated[
        str | None,
        typer.Option(
            help="Of encode, question, together, rerank, retrieve, write, separated by commas; default: all.",
            metavar="SECTIONS",
            show_default=False,
        ),
    ] = None,
    passages: Annotated[
        int | None, typer.Option(help="Passages to encode; default: by shape.", show_default=False, **INTEGER)
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Passages to rerank; default: by shape.", show_default=False, **INTEGER)
    ] = None,
    vectors: Annotated[
        int | None,
        typer.Option(help="Vectors to search, of dimension 1024; default: 20,000.", show_default=False, **INTEGER),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.", **NOT_NEGATIVE)] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes and one table of ratios: a minute on a quiet machine.")
    ] = False,
    as_markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Time our code and the alternatives on random weights; print a table, and in a pipe one JSON line after it."""
    with one_line_errors(stopped="nothing is kept"):
        quiet_libraries()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also those of loading and saving weights
        from bloomz_haystack.benchmark.speed.threads import choose_threads, pinned_threads

        sections = None if only is None else tuple(name.strip() for name in only.split(",") if name.strip())
        number = choose_threads(1 if quick and threads is None else threads)
        with pinned_threads(number):
            from bloomz_haystack.benchmark.speed.plan import SpeedOptions
            from bloomz_haystack.benchmark.speed.ratio_table import ratio_markdown
            from bloomz_haystack.benchmark.speed.sections import measure_speed
            from bloomz_haystack.benchmark.speed.table import speed_markdown, speed_values
            from bloomz_haystack.cli.console import on_terminal, show_markdown
            from bloomz_haystack.cli.output import print_json

            clean_up_when_stopped()
            options = SpeedOptions(
                shape, layers, device, number, rounds, sections, passages, candidates, vectors, seed, quick
            )
            run = measure_speed(options, say if sys.stderr.isatty() else lambda _: None)
        if not json:
            show_markdown((ratio_markdown(run) if quick else speed_markdown(run)) + "\n", as_markdown)
        if json or not on_terminal(sys.stdout):
            print_json(speed_values(run))


def growth(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the table.")] = Path("results/growth"),
    quick: Annotated[bool, typer.Option("--quick", help="A few small sizes: seconds instead of minutes.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads for every library; default: all cores.", show_default=False, **INTEGER),
    ] = None,
    as_markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Measure how time and memory grow with passages, text length and candidates, with the bundled models."""
    with one_line_errors(stopped="nothing is kept"):
        quiet_libraries()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also those of loading weights
        from bloomz_haystack.benchmark.speed.threads import choose_threads, pinned_threads

        number = choose_threads(threads)
        with pinned_threads(number):
            import tempfile

            from bloomz_haystack.benchmark.report.plots import new_figure
            from bloomz_haystack.benchmark.speed.growth import QUICK, Sizes, measure_growth
            from bloomz_haystack.benchmark.speed.growth_report import draw_growth, growth_markdown, growth_values
            from bloomz_haystack.cli.console import show_markdown
            from bloomz_haystack.cli.output import print_json
            from bloomz_haystack.cli.progress import TerminalWatcher
            from haystack_integrations.common.bloomz.whole_files import write_whole

            clean_up_when_stopped()
            new_figure(1.0)  # a missing matplotlib shows before minutes of work
            out.mkdir(parents=True, exist_ok=True)
            watcher = TerminalWatcher()
            watcher.row("growth", 1, 1)
            try:
                # Beside the results and not in the system's temporary folder, which may be held in memory.
                with tempfile.TemporaryDirectory(prefix=".growth-", dir=out) as folder:
                    series = measure_growth(QUICK if quick else Sizes(), Path(folder), watcher)
            finally:
                watcher.stop()
        draw_growth(series, out / "growth.png")
        write_whole(out / "growth.md", growth_markdown(series) + "\n")
        if json:
            print_json(growth_values(series, number))
        else:
            show_markdown(growth_markdown(series), as_markdown)
            say(f"{out}: growth.png, growth.md")
