"""`bloomz index`: reads arguments, calls `index_files`, prints."""

from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import (
    INTEGER,
    JsonOption,
    ModelOption,
    PipelineOption,
    PrecisionOption,
    StoreUnlessPipeline,
    VerboseOption,
    WaitOption,
    changed_settings,
    check_paths,
    check_source,
)
from bloomz_haystack.cli.errors import one_line_errors
from bloomz_haystack.cli.models import note_tiny, prepare_hub
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import TINY_RETRIEVER, IndexSettings

FILES_AND_PASSAGES = ("passage_words", "prune", "prune_all")  # what an indexing pipeline does not say itself


def index_verb(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Files and folders: .txt .md .html .pdf .docx .pptx .xlsx .csv .tsv .jsonl",
            show_default=False,
        ),
    ],
    store: StoreUnlessPipeline = None,
    pipeline: PipelineOption = None,
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
    """Read files, split them into passages, embed the new ones and write them to a store.

    With --pipeline, --store is the folder where the list of files is kept: by default FILE without .yaml.
    """
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
        if pipeline:
            check_source(None, pipeline)
            changed_settings(settings, FILES_AND_PASSAGES)
        elif store is None:
            check_source(store, pipeline)
        from bloomz_haystack.cli.index_report import IndexBar, show_summary, summary_as_json
        from bloomz_haystack.cli.output import print_json
        from bloomz_haystack.indexing.index import index_files
        from bloomz_haystack.pipelines import hide_progress, load_pipeline, models_of
        from bloomz_haystack.store_folder import StoreFolder

        clean_up_when_stopped()
        loaded = hide_progress(load_pipeline(pipeline)) if pipeline else None
        folder = store or pipeline.with_suffix("")  # type: ignore[union-attr]  # one of the two is there
        prepare_hub(*(models_of(loaded) if loaded else [StoreFolder(folder).retriever(model, default=TINY_RETRIEVER)]))
        bar = IndexBar()
        try:
            summary = index_files(paths, folder, settings, pipeline=loaded, progress=bar)
        finally:
            bar.stop()
        print_json(summary_as_json(summary)) if json else show_summary(summary)
        if not (json or pipeline or summary.nothing_done):
            note_tiny(folder, summary.model)
    if summary.problems or summary.nothing_done:
        raise typer.Exit(1)
