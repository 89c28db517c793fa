"""`bloomz ask`: reads arguments and questions, calls `Answerer`, prints."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from bloomz_haystack.batch.answer_file import check_answer_file
from bloomz_haystack.batch.questions import BatchQuestion, read_batch, read_questions
from bloomz_haystack.cli.arguments import (
    INTEGER,
    THRESHOLD,
    WEIGHT,
    JsonOption,
    ModelOption,
    PipelineOption,
    PrecisionOption,
    StoreUnlessPipeline,
    VerboseOption,
    WaitOption,
    changed_settings,
    check_source,
    text,
)
from bloomz_haystack.cli.errors import one_line_errors, say
from bloomz_haystack.cli.models import note_tiny, prepare_hub
from bloomz_haystack.cli.signals import clean_up_when_stopped
from bloomz_haystack.settings import AskSettings, check_question

if TYPE_CHECKING:
    from bloomz_haystack.answering import Answerer

FROM_STDIN = "-"
ASKED_EACH_TIME = ("top_k", "candidates", "threshold")  # what a question may say to any pipeline


def ask_verb(
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION",
            help='In French or in English; "-" reads questions from stdin, one per line.',
            show_default=False,
            parser=text,
        ),
    ] = None,
    store: StoreUnlessPipeline = None,
    pipeline: PipelineOption = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Many questions at once, one per line: text, a JSON string, or {"question", "id", "filters"}; '
            '"-" reads stdin.',
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --batch: file of answers, .parquet or .jsonl.", show_default=False),
    ] = None,
    model: ModelOption = None,
    ranker: Annotated[str, typer.Option(help="Ranker: Hub name or folder.")] = AskSettings.ranker,
    candidates: Annotated[
        int, typer.Option(help="Passages handed to the ranker (at least --top-k are).", **INTEGER)
    ] = AskSettings.candidates,
    top_k: Annotated[int, typer.Option(help="Maximum number of passages in an answer.", **INTEGER)] = AskSettings.top_k,
    threshold: Annotated[
        float | None,
        typer.Option(
            help='Lowest score in an answer, 0 to 1; "auto": the one the ranker recommends.',
            show_default=False,
            **THRESHOLD,
        ),
    ] = None,
    hybrid: Annotated[
        bool | None,
        typer.Option(
            "--hybrid/--no-hybrid",
            help="Also search by BM25 and fuse both; default: if the store has a BM25 index.",
        ),
    ] = None,
    prefix_cache: Annotated[
        str | None, typer.Option(help="Memory for cached passage states, e.g. 2GB.", show_default=False)
    ] = None,
    prefix_cache_folder: Annotated[
        Path | None, typer.Option(help="Keep that cache in this folder, for later runs.", show_default=False)
    ] = None,
    precision: PrecisionOption = None,
    score_prior: Annotated[
        float | None,
        typer.Option(
            help="Weight of the retriever's similarity in the ranking; default: the ranker's own.",
            show_default=False,
            **WEIGHT,
        ),
    ] = None,
    verbose: VerboseOption = False,
    wait: WaitOption = AskSettings.wait,
    json: JsonOption = False,
) -> None:
    """Find the passages of a store that answer a question, best first.

    In a pipe each passage is one line: rank, score, similarity, source and text, separated by tabs; with "-" the
    question comes first. With --json each question gives one object on one line. With --batch the answers go to a file,
    one row per passage, and --json prints what was done.
    """
    with one_line_errors(stopped="nothing was changed"):
        if question is None and not (batch or out):
            raise ValueError("missing argument 'QUESTION', or '--batch' FILE of questions in its place")
        check_source(store, pipeline)
        asked = _check_batch(batch, out, question) if batch or out else None
        if asked and prefix_cache:
            raise ValueError("--prefix-cache is for question after question: --batch reads each passage once by itself")
        if question not in (None, FROM_STDIN):
            check_question(question)
        settings = AskSettings(
            model=model,
            ranker=ranker,
            candidates=candidates,
            top_k=top_k,
            threshold=threshold,
            hybrid=hybrid,
            prefix_cache=prefix_cache,
            prefix_cache_folder=prefix_cache_folder,
            precision=precision,  # type: ignore[arg-type]  # checked by its parser
            score_prior=score_prior,
            wait=wait,
        )
        limits = changed_settings(settings, ASKED_EACH_TIME) if pipeline else {}
        from bloomz_haystack.answering import Answerer
        from bloomz_haystack.pipelines import hide_progress, load_pipeline

        if pipeline:
            loaded = load_pipeline(pipeline)
            answerer = Answerer(pipeline=loaded if sys.stderr.isatty() else hide_progress(loaded))
        else:
            answerer = Answerer(store, settings, progress_bar=sys.stderr.isatty())
        prepare_hub(answerer.model, answerer.ranker)
        clean_up_when_stopped()
        with answerer:
            if asked:
                all_answered = _answer_batch(answerer, asked, limits, json)
            elif question == FROM_STDIN:
                all_answered = _answer_stdin(answerer, limits, json)
            else:
                _answer(answerer, question or "", limits, json)
                all_answered = True
        if store and not json:
            note_tiny(store, answerer.model, answerer.ranker)
    if not all_answered:
        raise typer.Exit(1)


def _answer(answerer: "Answerer", question: str, limits: dict[str, Any], json: bool, *, named: bool = False) -> None:
    from bloomz_haystack.cli.answer_table import show_answer
    from bloomz_haystack.cli.output import print_json

    answer = answerer.ask(question, **limits)
    print_json(answer.as_json()) if json else show_answer(answer, named=named)


def _answer_stdin(answerer: "Answerer", limits: dict[str, Any], json: bool) -> bool:
    """Answer questions as they come; a line that cannot be answered is reported and skipped."""
    answerer.warm_up()  # what is wrong with a model is not the fault of a line
    if sys.stdin.isatty():
        say("one question per line; Ctrl-D ends")
    all_answered = True
    for line in read_questions(sys.stdin.buffer):
        try:
            if line.problem:
                raise ValueError(line.problem)
            _answer(answerer, line.text, limits, json, named=True)
        except ValueError as error:
            say(f"line {line.number}: {error}")
            all_answered = False
    return all_answered


class _Batch(NamedTuple):
    questions: list[BatchQuestion]
    problems: list[str]
    out: Path


def _check_batch(batch: Path | None, out: Path | None, question: str | None) -> _Batch:
    """Read the questions of a batch, and name the lines that hold none, before a model is loaded."""
    if question is not None:
        raise ValueError("a question and --batch: give one of the two")
    if batch is None or out is None:
        raise ValueError("--batch FILE of questions and --out FILE of answers go together")
    check_answer_file(out)
    if batch != Path(FROM_STDIN) and not batch.is_file():
        raise ValueError(f"no such file of questions: {batch}")
    if batch.resolve() == out.resolve():
        raise ValueError(f"--out would overwrite the questions: {out}")
    lines = sys.stdin.buffer.readlines() if batch == Path(FROM_STDIN) else batch.read_bytes().split(b"\n")
    questions, broken = read_batch(lines)
    problems = [f"{batch}:{line.number}: {line.problem}" for line in broken]
    for problem in problems:
        say(problem)
    if not questions:
        raise ValueError(f'no question in {batch}: give one per line, as text or as {{"question": ...}}')
    return _Batch(questions, problems, out)


def _answer_batch(answerer: "Answerer", batch: _Batch, limits: dict[str, Any], json: bool) -> bool:
    from bloomz_haystack.batch.answers import answer_batch
    from bloomz_haystack.cli.output import print_json, print_lines
    from bloomz_haystack.cli.progress import TerminalWatcher

    watcher = TerminalWatcher()
    advanced = watcher.step("questions", len(batch.questions))
    try:
        summary = answer_batch(
            answerer, batch.questions, batch.out, limits=limits, advanced=advanced, skipped=watcher.note
        )
    finally:
        watcher.stop()
    summary.problems[:0] = batch.problems
    print_json(summary.as_json()) if json else print_lines(summary.as_lines())
    return not summary.problems
