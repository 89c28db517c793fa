"""``bloomz benchmark growth``: reads arguments, pins threads, calls ``measure_growth``, prints and draws."""

import os
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER
from bloomz_haystack.cli.benchmark import Json, Markdown, benchmark
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped


@benchmark.command()
def growth(
    out: Annotated[Path, typer.Option(help="Folder of the figure, the table and the values.")] = Path("results/growth"),
    quick: Annotated[bool, typer.Option("--quick", help="A few small sizes, in seconds; full: minutes.")] = False,
    threads: Annotated[
        int | None,
        typer.Option(help="Of every library; default: all cores of the process.", show_default=False, **INTEGER),
    ] = None,
    as_markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Measure how seconds and memory grow with passages, text length and candidates, on the bundled tiny models."""
    with one_line_errors(stopped="nothing is kept"):
        quiet_libraries()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also those of loading weights
        from bloomz_haystack.benchmark.speed.threads import choose_threads, pinned_threads

        number = choose_threads(threads)
        with pinned_threads(number):
            import tempfile

            from bloomz_haystack.benchmark.report.plots import new_figure
            from bloomz_haystack.benchmark.speed.growth import QUICK, Sizes, measure_growth
            from bloomz_haystack.benchmark.speed.growth_report import as_json, draw, markdown
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
        draw(series, out / "growth.png")
        write_whole(out / "growth.md", markdown(series) + "\n")
        if json:
            print_json(as_json(series, number))
        else:
            show_markdown(markdown(series), as_markdown)
            say(f"{out}: growth.png, growth.md")
