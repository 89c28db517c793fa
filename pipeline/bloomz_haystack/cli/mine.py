"""`bloomz mine`: parses arguments, mines hard negatives, prints."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, NOT_NEGATIVE, ShardOption
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import TINY_RANKER, TINY_RETRIEVER


def mine(
    data: Annotated[
        list[Path],
        typer.Option(help="Rows to mine for: file or folder of .jsonl, .jsonl.gz, .parquet, SQuAD .json; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; the same command resumes in it.", show_default=False)],
    retriever: Annotated[str, typer.Option(help="Retriever: bundled name, folder or Hub name.")] = TINY_RETRIEVER,
    ranker: Annotated[str, typer.Option(help="Ranker: bundled name, folder or Hub name.")] = TINY_RANKER,
    negatives: Annotated[int, typer.Option(help="Negatives per question.", **INTEGER)] = 30,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(help="Passages to search instead of those in --data; repeatable.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Maximum number of questions (a random sample).", show_default=False, **INTEGER)
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed (question sample, query languages).", **NOT_NEGATIVE)] = 0,
    batch_tokens: Annotated[int, typer.Option(help="Tokens per batch; raise it on a GPU.", **INTEGER)] = 2048,
    shard: ShardOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Mine hard negatives: passages that nearly answer each question, scored by a ranker, to train on."""
    with one_line_errors(stopped=f"finished blocks are kept in {out}; the same command resumes"):
        quiet_libraries()
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from bloomz_haystack.cli.output import print_json, print_lines
        from bloomz_haystack.cli.progress import TerminalWatcher
        from bloomz_haystack.files.shard import ALL_BLOCKS
        from bloomz_haystack.mining.hard_negatives import MiningSettings, mine_negatives

        settings = MiningSettings(retriever, ranker, negatives, limit, seed, batch_tokens)
        clean_up_when_stopped()
        watcher = TerminalWatcher()
        try:
            summary = mine_negatives(data, out, settings, watcher, corpus or [], shard or ALL_BLOCKS)
        finally:
            watcher.stop()
        print_json(summary.as_json()) if json else print_lines(summary.as_text().splitlines())
