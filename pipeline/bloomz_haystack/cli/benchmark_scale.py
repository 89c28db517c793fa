"""`bloomz benchmark scale`: reads arguments, measures the stores or prints the plan."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, NOT_NEGATIVE, JsonOption
from bloomz_haystack.cli.benchmark_speed import MarkdownTable
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import TINY_RETRIEVER

if TYPE_CHECKING:
    from bloomz_haystack.benchmark.scale.passages import ScalePassages
    from bloomz_haystack.benchmark.scale.store_costs import Step, StoreCost

QUICK_PASSAGES, FULL_PASSAGES, TOP_K = 2_000, 100_000, 10
NO_SERVER = "no PostgreSQL: its rows are left out; PG_CONN_STR or --pg-conn says where one is"


def scale(
    passages: Annotated[
        int | None,
        typer.Option(help="Passages to write, default 100,000; or to plan for.", show_default=False, **INTEGER),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK_PASSAGES:,} passages: seconds, not minutes.")] = False,
    questions: Annotated[int, typer.Option(help="Questions to ask.", **INTEGER)] = 200,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Passages and questions: file or folder of .jsonl, .jsonl.gz, .parquet, SQuAD .json; repeatable; "
            "default: random vectors.",
            show_default=False,
        ),
    ] = None,
    passage_words: Annotated[int, typer.Option(help="Most words in a passage of --data.", **INTEGER)] = 150,
    model: Annotated[str, typer.Option(help="Retriever that embeds --data.")] = TINY_RETRIEVER,
    dimension: Annotated[int, typer.Option(help="Numbers in a random vector.", **INTEGER)] = 1024,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Measure nothing: compute stores, machines and times for 10^5 to 10^8 passages."),
    ] = False,
    rate: Annotated[
        int | None, typer.Option(help="With --plan: questions a second.", show_default=False, **INTEGER)
    ] = None,
    constants: Annotated[
        Path | None,
        typer.Option(help="With --plan: YAML file with measurements of your own.", show_default=False),
    ] = None,
    pg_conn: Annotated[
        str | None,
        typer.Option(help="Address of a PostgreSQL; default: PG_CONN_STR, which hides a password.", show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads for every library; default: all cores.", show_default=False, **INTEGER),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.", **NOT_NEGATIVE)] = 0,
    as_markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Measure the stores as they grow: recall, time of a question, build time, disk and memory; or plan for more."""
    with one_line_errors(stopped="nothing is kept"):
        if not plan and (rate or constants):
            raise ValueError("--rate and --constants belong to --plan, which computes and measures nothing")
        quiet_libraries()
        if plan:
            _print_plan(passages, rate, constants, as_markdown, json)
            return
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # also those of loading weights
        from bloomz_haystack.benchmark.speed.threads import choose_threads, pinned_threads

        number, count = choose_threads(threads), passages or (QUICK_PASSAGES if quick else FULL_PASSAGES)
        with pinned_threads(number):
            from bloomz_haystack.benchmark.scale.passages import random_passages, read_passages
            from bloomz_haystack.benchmark.scale.report import scale_markdown, scale_run, scale_values
            from bloomz_haystack.cli.console import show_markdown
            from bloomz_haystack.cli.output import print_json
            from bloomz_haystack.cli.progress import TerminalWatcher

            clean_up_when_stopped()
            if count < TOP_K:
                raise ValueError(f"--passages must be at least {TOP_K}, the passages asked for, but got {count}")
            address = pg_conn or os.environ.get("PG_CONN_STR")
            server = _describe(address)
            watcher = TerminalWatcher()
            watcher.row("scale", 1, 1)
            try:
                if data:
                    embedding = watcher.step("embed", count + questions)
                    written = read_passages(data, passage_words, model, count, questions, seed, embedding)
                else:
                    written = random_passages(count, dimension, questions, seed)
                costs = list(_costs(written, address, watcher.step))
            finally:
                watcher.stop()
            run = scale_run(written, TOP_K, server, number, costs)
        if json:
            print_json(scale_values(run))
        else:
            show_markdown(scale_markdown(run) + "\n", as_markdown)


def _print_plan(passages: int | None, rate: int | None, constants: Path | None, as_markdown: bool, json: bool) -> None:
    from bloomz_haystack.benchmark.scale.plan import NUMBERS, RATES, SIZES, read_constants, values_of
    from bloomz_haystack.benchmark.scale.plan_report import plan_markdown, plan_values
    from bloomz_haystack.cli.console import show_markdown

    known = read_constants(constants)
    asked = ([passages] if passages else SIZES, [rate] if rate else RATES, list(NUMBERS), values_of(known))
    if json:
        from bloomz_haystack.cli.output import print_json

        print_json(plan_values(*asked, known))
    else:
        show_markdown(plan_markdown(*asked) + "\n", as_markdown)


def _describe(address: str | None) -> str | None:
    """Ask the server before minutes of work; say so where there is none."""
    if not address:
        say(NO_SERVER)
        return None
    import haystack_integrations.document_stores.bloomz_pgvector  # noqa: F401  # says what to install, if it is not
    from bloomz_haystack.benchmark.scale.postgres_costs import describe_postgres

    return describe_postgres(address)


def _costs(passages: "ScalePassages", address: str | None, step: "Step") -> "Iterator[StoreCost]":
    from bloomz_haystack.benchmark.scale.passages import nearest_passages
    from bloomz_haystack.benchmark.scale.store_costs import edge_costs

    truth = nearest_passages(passages, TOP_K)
    with tempfile.TemporaryDirectory(prefix="bloomz-scale-") as folder:
        yield from edge_costs(passages, truth, Path(folder) / "float32", "float32", step)
        yield from edge_costs(passages, truth, Path(folder) / "float16", "float16", step)
    if address:
        from bloomz_haystack.benchmark.scale.postgres_costs import postgres_costs

        yield from postgres_costs(passages, truth, address, step)
