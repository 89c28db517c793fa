"""`bloomz index`: reads arguments, calls `index_files`, prints."""

from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import (
    INTEGER,
    JsonOption,
    ModelOption,
    PrecisionOption,
    StoreOption,
    VerboseOption,
    WaitOption,
    check_paths,
)
from bloomz_haystack.cli.errors import one_line_errors
from bloomz_haystack.cli.models import note_tiny, prepare_hub
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import TINY_RETRIEVER, IndexSettings


def index_verb(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Files and folders: .txt .md .html .pdf .docx .pptx .xlsx .csv .tsv .jsonl",
            show_default=False,
        ),
    ],
    store: StoreOption,
    model: ModelOption = None,
    batch_tokens: Annotated[
        int, typer.Option(help="Tokens per batch; more on a GPU, e.g. 32768.", **INTEGER)
    ] = IndexSettings.batch_tokens,
    passage_words: Annotated[int, typer.Option(help="Words per passage.", **INTEGER)] = IndexSettings.passage_words,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove passages of files that no longer exist under PATH.")
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="With --prune: even if a folder is now empty, or the store would end up empty."),
    ] = False,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Also build a BM25 index (added to an existing store).")
    ] = False,
    precision: PrecisionOption = None,
    verbose: VerboseOption = False,
    wait: WaitOption = IndexSettings.wait,
    json: JsonOption = False,
) -> None:
    """Read files, split them into passages, embed the new ones and write them to a store."""
    with one_line_errors(stopped="everything already written is kept; run the same command to resume"):
        check_paths(paths, gone=prune)
        settings = IndexSettings(
            model=model,
            passage_words=passage_words,
            batch_tokens=batch_tokens,
            hybrid=hybrid,
            precision=precision,  # type: ignore[arg-type]  # checked by its parser
            prune=prune,
            prune_all=yes,
            wait=wait,
        )
        from bloomz_haystack.cli.output import IndexBar, print_json, show_summary, summary_as_json
        from bloomz_haystack.indexing.index import index_files
        from bloomz_haystack.store_folder import StoreFolder

        clean_up_when_stopped()
        folder = StoreFolder(store)
        prepare_hub(folder.retriever(model, default=TINY_RETRIEVER))
        bar = IndexBar()
        try:
            summary = index_files(paths, store, settings, progress=bar)
        finally:
            bar.stop()
        print_json(summary_as_json(summary)) if json else show_summary(summary)
        if not json and not summary.nothing_done:
            note_tiny(store, summary.model)
    if summary.problems or summary.nothing_done:
        raise typer.Exit(1)
