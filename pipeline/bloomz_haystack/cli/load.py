"""`bloomz load`: reads arguments, calls `load_parts`, prints."""

from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import JsonOption, PipelineOption, StoreUnlessPipeline, WaitOption, check_source
from bloomz_haystack.cli.errors import one_line_errors
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import IndexSettings


def load_verb(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of bloomz embed.", show_default=False)
    ],
    store: StoreUnlessPipeline = None,
    pipeline: PipelineOption = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Also build a BM25 index; PostgreSQL always has one.")
    ] = False,
    wait: WaitOption = IndexSettings.wait,
    json: JsonOption = False,
) -> None:
    """Load embedded passages into a store; no model is loaded.

    With --pipeline, --store is the folder where the list of files is kept: by default FILE without .yaml.
    """
    with one_line_errors(stopped="everything already written is kept; run the same command to resume"):
        if pipeline or not store:
            check_source(None, pipeline)
        if pipeline and hybrid:
            raise ValueError("--hybrid: the pipeline says it; change it in the YAML file")
        from bloomz_haystack.cli.output import print_json, print_lines
        from bloomz_haystack.cli.progress import CopyBar
        from bloomz_haystack.cluster.load import load_parts
        from bloomz_haystack.files.printable import counted

        clean_up_when_stopped()
        folder = store or pipeline.with_suffix("")  # type: ignore[union-attr]  # one of the two is there
        bar = CopyBar("loading")
        try:
            summary = load_parts(folders, folder, pipeline=pipeline, hybrid=hybrid, wait=wait, advanced=bar.advanced)
        finally:
            bar.stop()
        if json:
            print_json(summary.as_json())
            return
        done = f"{summary.written:,} written, {summary.already_there:,} there already"
        print_lines([f"{counted(summary.read, 'passage')} read: {done}", f"{summary.in_target:,} in the store"])
