"""`bloomz benchmark sentences`: reads arguments, calls `measure_answer_sentences`, prints."""

from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, JsonOption
from bloomz_haystack.cli.benchmark_speed import MarkdownTable
from bloomz_haystack.cli.errors import one_line_errors, quiet_libraries
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import TINY_RETRIEVER


def sentences_verb(
    data: Annotated[Path, typer.Option(help="SQuAD file whose answers have offsets.", show_default=False)],
    questions: Annotated[
        Path | None,
        typer.Option(
            help="The same questions in another language, by id: SQuAD file, or JSON Lines with question_fr.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Retriever: Hub name, folder or bundled name.")] = TINY_RETRIEVER,
    limit: Annotated[
        int | None, typer.Option(help="Number of questions to draw; default: all.", show_default=False, **INTEGER)
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Measure how often the marked sentence holds the answer, against words, cosine, first and random sentence."""
    with one_line_errors(stopped="nothing is kept"):
        quiet_libraries()
        from bloomz_haystack.benchmark.run.answer_sentences import measure_answer_sentences, read_span_questions
        from bloomz_haystack.cli.console import show_markdown
        from bloomz_haystack.cli.output import print_json
        from bloomz_haystack.cli.progress import TerminalWatcher
        from bloomz_haystack.files.markdown import markdown_table

        clean_up_when_stopped()
        asked = read_span_questions(data, questions, limit, seed)
        watcher = TerminalWatcher()
        watcher.row(model, 1, 1)
        try:
            measured = measure_answer_sentences(model, asked, watcher.step("questions", len(asked)))
        finally:
            watcher.stop()
        if json:
            print_json({**measured._asdict(), "model": model, "seed": seed})
            return
        heads = [f"{measured.questions:,} questions, {measured.sentences:.1f} sentences a passage", "answer in it, %"]
        rows = [[way, f"{100 * share:.1f}"] for way, share in measured.shares.items()]
        show_markdown(markdown_table(heads, rows, numbers=True), as_markdown)
