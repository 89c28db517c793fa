"""The command line: reads arguments, calls ``indexing`` and ``asking``, prints. Nothing else is decided here.

Answers go to stdout, notes and errors to stderr, one line each. Torch and Haystack are imported inside the verbs, so
that ``--help`` does not wait for them.
"""

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bloomz_haystack.cli import benchmark_growth, benchmark_speed  # noqa: F401  # add their verbs to the line below
from bloomz_haystack.cli.arguments import INTEGER, PRECISION, PROBABILITY, WEIGHT, check_paths, check_store, text
from bloomz_haystack.cli.benchmark import benchmark
from bloomz_haystack.cli.errors import SETTINGS, mend_streams, one_line_errors, quiet_libraries, say, show_traceback
from bloomz_haystack.cli.mine import mine
from bloomz_haystack.cli.signals import clean_up_when_stopped, end_when_stopped, leave_at_once_when_stopped
from bloomz_haystack.cli.store import store_verbs
from bloomz_haystack.questions import check_question, read_questions

app = typer.Typer(
    help="Find and rank passages in French and English with the Bloomz models.", add_completion=False, **SETTINGS
)
train = typer.Typer(help="Train a retriever or a ranker from a configuration file.", **SETTINGS)
app.add_typer(train, name="train")
app.add_typer(benchmark, name="benchmark")
app.add_typer(store_verbs, name="store")
app.command()(mine)

if TYPE_CHECKING:
    from bloomz_haystack.answering import Answerer
    from haystack_integrations.document_stores.qdrant_edge import QdrantEdgeDocumentStore

FROM_STDIN = "-"
RETRIEVER, RANKER = "tiny-fr-en-retriever", "tiny-fr-en-ranker"  # bundled; spelt here so that help needs no torch
PUBLISHED = "--model cmarkea/bloomz-560m-retriever-v2 and --ranker cmarkea/bloomz-560m-reranking"

Store = Annotated[Path, typer.Option("--store", help="Folder of the store.", show_default=False)]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Retriever: Hub name or folder; default: the store's own, else tiny-fr-en-retriever."),
]
Precision = Annotated[
    str | None,
    typer.Option(help='"int8": linears of 8 bits, on a CPU; default: float32 there.', show_default=False, **PRECISION),
]
Wait = Annotated[float, typer.Option("--wait", help="Seconds to wait while another process holds the store.", **WEIGHT)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Config = Annotated[Path, typer.Option("--config", help="YAML file with the settings.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder for the trained model.", show_default=False)]
TrainData = Annotated[
    str | None,
    typer.Option("--data", help="File or folder of rows, in place of data.sources.", show_default=False),
]
TrainBase = Annotated[
    str | None,
    typer.Option(
        "--base", help="Checkpoint to start from, in place of model.base: Hub name or folder.", show_default=False
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last state of a run that was stopped.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bloomz-haystack {version('bloomz-haystack')}")
        raise typer.Exit


def _be_verbose(asked: bool) -> None:
    if asked:
        logging.getLogger("haystack_integrations.common.bloomz").setLevel(logging.INFO)


Verbose = Annotated[
    bool,
    typer.Option("--verbose", callback=_be_verbose, help="Also say on which device the models run, and how int8 does."),
]


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of errors (or set BLOOMZ_DEBUG=1).")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Find and rank passages in French and English with the Bloomz models."""
    if debug:
        os.environ["BLOOMZ_DEBUG"] = "1"


@app.command()
def index(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Files and folders: .txt .md .html .pdf .docx .pptx .xlsx .csv .tsv .jsonl",
            show_default=False,
        ),
    ],
    store: Store,
    model: Model = None,
    batch_tokens: Annotated[
        int, typer.Option(help="Tokens computed together; more on a GPU, for instance 32768.", **INTEGER)
    ] = 2048,
    passage_words: Annotated[int, typer.Option(help="Words in a passage.", **INTEGER)] = 150,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Also remove passages of files that are gone from the paths given, or gone with them."
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="With --prune: even where a folder is there but empty, or nothing would be left."),
    ] = False,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Keep the words too (BM25); a store made without gets them.")
    ] = False,
    precision: Precision = None,
    verbose: Verbose = False,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """Read files, cut them into passages, embed those that are new and keep them in a store."""
    with one_line_errors(stopped="what was written stays; the same command goes on from there"):
        check_paths(paths, gone=prune)
        quiet_libraries()
        from bloomz_haystack.choosing import choose_model
        from bloomz_haystack.cli.output import ProgressWatcher, print_json, show_summary, summary_as_json
        from bloomz_haystack.indexing.index import index_files
        from bloomz_haystack.indexing.stored import opened

        clean_up_when_stopped()
        _prepare_hub(choose_model(store, model, RETRIEVER))
        watcher = ProgressWatcher()
        try:
            summary = index_files(
                paths,
                store,
                model=model,
                default_model=RETRIEVER,
                batch_tokens=batch_tokens,
                passage_words=passage_words,
                prune=prune,
                prune_all=yes,
                watcher=watcher,
                hybrid=hybrid,
                precision=precision,  # type: ignore[arg-type]  # checked there
                wait=wait,
            )
        finally:
            watcher.stop()
        print_json(summary_as_json(summary)) if json else show_summary(summary)
        if not json and not summary.nothing_done:
            with opened(store) as documents:
                _note_bundled(documents, summary.model)
    if summary.problems or summary.nothing_done:
        raise typer.Exit(1)


@app.command()
def ask(
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUESTION",
            help='In French or in English; "-" reads many from stdin, one a line.',
            show_default=False,
            parser=text,
        ),
    ],
    store: Store,
    model: Model = None,
    ranker: Annotated[
        str | None, typer.Option(help="Ranker: Hub name or folder; default: tiny-fr-en-ranker.", show_default=False)
    ] = None,
    candidates: Annotated[
        int, typer.Option(help="Passages handed to the ranker (at least --top-k are).", **INTEGER)
    ] = 50,
    top_k: Annotated[int, typer.Option(help="Most passages in the answer.", **INTEGER)] = 5,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest probability of relevance, 0 to 1.", show_default=False, **PROBABILITY)
    ] = None,
    hybrid: Annotated[
        bool | None,
        typer.Option(
            "--hybrid/--no-hybrid",
            help="Search by words (BM25) too, and fuse the scores; default: if the store keeps them.",
        ),
    ] = None,
    prefix_cache: Annotated[
        str | None,
        typer.Option(help="Bytes in which the ranker keeps what passages gave, as 2GB.", show_default=False),
    ] = None,
    prefix_cache_folder: Annotated[
        Path | None, typer.Option(help="Where it keeps them for the next question.", show_default=False)
    ] = None,
    precision: Precision = None,
    score_prior: Annotated[
        float | None,
        typer.Option(
            help="How much the retriever's scores count beside the ranker; default: as its config.json says.",
            show_default=False,
            **WEIGHT,
        ),
    ] = None,
    verbose: Verbose = False,
    wait: Wait = 30.0,
    json: Json = False,
) -> None:
    """Find the passages of a store that answer a question, best first.

    In a pipe each passage is one line: rank, probability, similarity, source and text, separated by tabs; with "-" the
    question comes first. With --json each question gives one object on one line.
    """
    with one_line_errors(stopped="nothing was changed"):
        check_store(store)
        if question != FROM_STDIN:
            check_question(question)
        quiet_libraries()
        from bloomz_haystack.answering import Answerer
        from bloomz_haystack.choosing import choose_model

        ranker = ranker or RANKER
        _prepare_hub(choose_model(store, model, RETRIEVER), ranker)
        answerer = Answerer(
            store,
            ranker=ranker,
            model=model,
            candidates=candidates,
            top_k=top_k,
            threshold=threshold,
            hybrid=hybrid,
            prefix_cache=prefix_cache,
            prefix_cache_folder=prefix_cache_folder,
            precision=precision,  # type: ignore[arg-type]  # checked above
            score_prior=score_prior,
            progress_bar=sys.stderr.isatty(),
            wait=wait,
        )
        clean_up_when_stopped()
        with answerer:
            asked = None if question == FROM_STDIN else question
            all_answered = _answer_all(answerer, asked, threshold, json)
            if not json:
                _note_bundled(answerer.documents, answerer.model, answerer.ranker)
    if not all_answered:
        raise typer.Exit(1)


def _answer_all(answerer: "Answerer", asked: str | None, threshold: float | None, json: bool) -> bool:
    """Answer one question, or those of stdin as they come; a line that cannot be answered is named and skipped."""
    from bloomz_haystack.cli.answer_table import show_answer
    from bloomz_haystack.cli.output import print_json

    if asked is not None:
        answer = answerer.answer(asked)
        print_json(answer.as_json()) if json else show_answer(answer, threshold)
        return True
    answerer.warm_up()
    if sys.stdin.isatty():
        say("one question a line; Ctrl-D ends")
    all_answered = True
    for question in read_questions(sys.stdin.buffer):
        try:
            if question.problem:
                raise ValueError(question.problem)
            answer = answerer.answer(question.text)
        except ValueError as error:
            say(f"line {question.line}: {error}")
            all_answered = False
            continue
        print_json(answer.as_json()) if json else show_answer(answer, threshold, asked=question.text)
    return all_answered


@train.command("retriever")
def train_retriever(
    config: Config, out: Out, data: TrainData = None, base: TrainBase = None, resume: Resume = False
) -> None:
    """Train a bi-encoder."""
    _train("retriever", config, out, resume, data, base)


@train.command("ranker")
def train_ranker(
    config: Config, out: Out, data: TrainData = None, base: TrainBase = None, resume: Resume = False
) -> None:
    """Train a cross-encoder."""
    _train("ranker", config, out, resume, data, base)


def _train(kind: str, config: Path, out: Path, resume: bool, data: str | None, base: str | None) -> None:
    with one_line_errors(stopped="the last state stays; the same command with --resume goes on from it"):
        quiet_libraries()
        logging.getLogger("bloomz_haystack.training").setLevel(logging.INFO)
        from bloomz_haystack.training import train as training

        clean_up_when_stopped()
        run = training.train_retriever if kind == "retriever" else training.train_ranker
        try:
            run(config, out, resume, data=data, base=base)
        except training.DivergedError as error:
            say(str(error))
            raise typer.Exit(1) from None


def _prepare_hub(*models: str) -> None:
    """Show progress bars only where a person waits for a download."""
    from bloomz_haystack.models.hub_offline import stay_offline_if_unreachable

    needs_hub = stay_offline_if_unreachable(models, bundled=(RETRIEVER, RANKER))
    if not (needs_hub and sys.stderr.isatty()):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _note_bundled(store: "QdrantEdgeDocumentStore", *models: str) -> None:
    if {RETRIEVER, RANKER} & set(models):
        from bloomz_haystack.cli.notices import say_once

        say_once(store, f"the bundled tiny models are for trying things out; for real work: {PUBLISHED}")


def main() -> None:
    """Run the command line."""
    # Before torch is imported: threads that spin while they wait lose 40 times the time on a busy core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    leave_at_once_when_stopped()
    mend_streams()
    try:
        app()
    except Exception as error:
        show_traceback(error)
        sys.exit(1)
    finally:
        end_when_stopped()


if __name__ == "__main__":
    main()
