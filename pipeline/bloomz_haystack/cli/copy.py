"""`bloomz copy`: reads arguments, calls `copy_passages`, prints."""

from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import JsonOption, check_source
from bloomz_haystack.cli.errors import one_line_errors
from bloomz_haystack.cli.signals import clean_up_when_stopped


def copy_verb(
    source: Annotated[Path, typer.Argument(metavar="FROM.yaml", help="Pipeline over the store to read.")],
    target: Annotated[Path, typer.Argument(metavar="TO.yaml", help="Pipeline over the store to write.")],
    json: JsonOption = False,
) -> None:
    """Copy passages with their vectors from one store to another; no model is loaded."""
    with one_line_errors(stopped="everything already written is kept; run the same command to resume"):
        for pipeline in (source, target):
            check_source(None, pipeline)
        from bloomz_haystack.cli.output import print_json, print_lines
        from bloomz_haystack.cli.progress import CopyBar
        from bloomz_haystack.cluster.store_copy import copy_passages
        from bloomz_haystack.files.printable import counted

        clean_up_when_stopped()
        bar = CopyBar("copying")
        try:
            summary = copy_passages(source, target, bar.advanced)
        finally:
            bar.stop()
        if json:
            print_json(summary.as_json())
            return
        done = f"{summary.written:,} written, {summary.already_there:,} there already"
        held = f"{summary.in_source:,} in the source, {summary.in_target:,} in the target"
        print_lines([f"{counted(summary.read, 'passage')} read: {done}", held])
