"""`bloomz benchmark mteb`: reads arguments, calls `measure_mteb`, prints."""

from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, JsonOption
from bloomz_haystack.cli.benchmark_speed import MarkdownTable
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import TINY_RETRIEVER


def mteb_verb(
    model: Annotated[str, typer.Option(help="Retriever: Hub name, folder or bundled name.")] = TINY_RETRIEVER,
    tasks: Annotated[
        str, typer.Option(help='Tasks of mteb, separated by commas; "french" is a list of ours.')
    ] = "french",
    out: Annotated[Path, typer.Option(help="Folder of results, in the layout of mteb.")] = Path("mteb-results"),
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: chosen.", show_default=False)] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens computed together.", **INTEGER)] = 2048,
    as_markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Evaluate a retriever on tasks of mteb (the Hub has their data); write the folder that mteb wants submitted."""
    with one_line_errors(stopped=f"finished tasks are kept in {out}; the same command continues"):
        quiet_libraries()
        from bloomz_haystack.benchmark.mteb_model import MtebRetriever
        from bloomz_haystack.benchmark.mteb_run import measure_mteb, mteb_tasks
        from bloomz_haystack.cli.console import show_markdown
        from bloomz_haystack.cli.output import print_json
        from bloomz_haystack.files.markdown import markdown_table

        clean_up_when_stopped()
        chosen = mteb_tasks([name.strip() for name in tasks.split(",") if name.strip()])
        retriever = MtebRetriever(model, device=device, batch_tokens=batch_tokens)
        scores = measure_mteb(retriever, chosen, out)
        if json:
            print_json({"model": model, "scores": [score._asdict() for score in scores]})
            return
        rows = [[score.task, score.metric, f"{score.score:.1f}"] for score in scores]
        show_markdown(markdown_table(["task", "main score", "%"], rows), as_markdown)
        say(f"{out}: results/, to be submitted to https://github.com/embeddings-benchmark/results")
