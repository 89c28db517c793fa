"""`bloomz embed`: reads arguments, calls `embed_inputs`, prints."""

from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloomz_haystack.cli.arguments import (
    INTEGER,
    JsonOption,
    PrecisionOption,
    ShardOption,
    VerboseOption,
    check_paths,
)
from bloomz_haystack.cli.errors import one_line_errors
from bloomz_haystack.cli.models import prepare_hub
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import EmbedSettings

if TYPE_CHECKING:
    from bloomz_haystack.cluster.embed import EmbedSummary


def embed_verb(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Files and folders, read as by index; or .jsonl and .parquet files of passages, one a row.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the parts; the same command resumes in it.", show_default=False)],
    shard: ShardOption = None,
    model: Annotated[str, typer.Option(help="Retriever: bundled name, folder or Hub name.")] = EmbedSettings.model,
    passage_words: Annotated[int, typer.Option(help="Words per passage.", **INTEGER)] = EmbedSettings.passage_words,
    part_passages: Annotated[
        int, typer.Option(help="Most passages in a part: what a run that is killed loses.", **INTEGER)
    ] = EmbedSettings.part_passages,
    precision: PrecisionOption = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:1; default: CUDA if there is one.", show_default=False)
    ] = None,
    batch_tokens: Annotated[
        int, typer.Option(help="Tokens per batch; more on a GPU, e.g. 32768.", **INTEGER)
    ] = EmbedSettings.batch_tokens,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help='On a Ray cluster: HOST:PORT, "auto" for the one that runs on this machine, "local" to start one.',
            show_default=False,
        ),
    ] = None,
    verbose: VerboseOption = False,
    json: JsonOption = False,
) -> None:
    """Embed passages into Parquet files, by one process or by many; bloomz load brings them into a store."""
    with one_line_errors(stopped=f"finished parts are kept in {out}; run the same command to resume"):
        check_paths(inputs)
        settings = EmbedSettings(
            model=model,
            passage_words=passage_words,
            batch_tokens=batch_tokens,
            part_passages=part_passages,
            precision=precision,  # type: ignore[arg-type]  # checked by its parser
            device=device,
        )
        from bloomz_haystack.cli.index_report import IndexBar
        from bloomz_haystack.cli.output import print_json
        from bloomz_haystack.cluster.embed import embed_inputs
        from bloomz_haystack.cluster.ray_encoders import RayEncoders
        from bloomz_haystack.files.shard import ALL_BLOCKS

        clean_up_when_stopped()
        prepare_hub(model)
        bar = IndexBar()
        try:
            with redirect_stdout(StringIO()) if ray else nullcontext():  # where Ray says what happens to its machines
                maker = RayEncoders(settings, ray) if ray else None
                summary = embed_inputs(inputs, out, settings, shard=shard or ALL_BLOCKS, progress=bar, maker=maker)
        finally:
            bar.stop()
        print_json(embedded_as_json(summary)) if json else show_embedded(summary)
    if summary.problems or (summary.nothing_done and summary.shard == ALL_BLOCKS):
        raise typer.Exit(1)


def show_embedded(summary: "EmbedSummary") -> None:
    """Print what a run did.

    :param summary: of the run.
    """
    from bloomz_haystack.cli.index_report import left_aside, speed_line
    from bloomz_haystack.cli.output import print_lines
    from bloomz_haystack.files.printable import counted

    done = f"{summary.embedded:,} embedded, {summary.unchanged:,} there already"
    lines = [f"{counted(summary.passages, 'passage')} in {counted(summary.parts, 'part')}: {done}", speed_line(summary)]
    if summary.truncated:
        lines.append(f"{counted(summary.truncated, 'passage')} lost the end: the model reads no more of a text")
    print_lines([*lines, f"model {summary.model}", f"parts in {summary.store}", *left_aside(summary)])


def embedded_as_json(summary: "EmbedSummary") -> dict[str, object]:
    """Return what `bloomz embed --json` prints.

    :param summary: of the run.
    :returns: plain values.
    """
    from bloomz_haystack.cli.index_report import summary_as_json

    values = {name: value for name, value in summary_as_json(summary).items() if name != "removed"}
    values |= {"out": values.pop("store"), "parts": summary.parts, "truncated": summary.truncated}
    return values | {"shard": f"{summary.shard.place}/{summary.shard.total}"}
