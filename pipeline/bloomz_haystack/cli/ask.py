"""`bloomz ask`: reads arguments and questions, calls `Answerer`, prints."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

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
        str,
        typer.Argument(
            metavar="QUESTION",
            help='In French or in English; "-" reads questions from stdin, one per line.',
            show_default=False,
            parser=text,
        ),
    ],
    store: StoreUnlessPipeline = None,
    pipeline: PipelineOption = None,
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
    question comes first. With --json each question gives one object on one line.
    """
    with one_line_errors(stopped="nothing was changed"):
        check_source(store, pipeline)
        if question != FROM_STDIN:
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
            if question == FROM_STDIN:
                all_answered = _answer_stdin(answerer, limits, json)
            else:
                _answer(answerer, question, limits, json)
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


class StdinLine(NamedTuple):
    """A line that holds a question, or why it does not."""

    number: int
    text: str = ""
    problem: str | None = None


def read_questions(lines: Iterable[bytes]) -> Iterator[StdinLine]:
    """Read lines of UTF-8, or of Windows-1252 where they are not UTF-8; blank lines are skipped.

    :param lines: of a binary file.
    :yields: questions, numbered by their line from 1.

    >>> [line.text for line in read_questions([b"\\xef\\xbb\\xbfO\\xc3\\xb9 ?\\r\\n", b"\\n", b"caf\\xe9\\n"])]
    ['Où ?', 'café']
    """
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            question = _decoded(line).strip()
        except ValueError as error:
            yield StdinLine(number, problem=str(error))
            continue
        if question:
            yield StdinLine(number, question)


def _decoded(line: bytes) -> str:
    if b"\0" in line:
        raise ValueError("not text (it contains a NUL byte): give UTF-8, one question per line")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return line.decode("cp1252")
        except UnicodeDecodeError:
            raise ValueError("not text: neither UTF-8 nor Windows-1252") from None
