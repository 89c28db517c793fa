"""``bloomz benchmark``: reads arguments, calls ``measure_quality`` and ``write_report``, prints."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, PRECISION, TEXT, WEIGHT
from bloomz_haystack.cli.errors import SETTINGS, one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped

benchmark = typer.Typer(help="Measure systems on questions whose right passage is known.", **SETTINGS)


class Protocol(StrEnum):
    """Whose card is followed."""

    retriever = "retriever"
    reranker = "reranker"


class Ties(StrEnum):
    """Which of its places a tie counts as."""

    fair = "fair"
    optimistic = "optimistic"


class Rule(StrEnum):
    """Which equal questions are left out."""

    none = "none"
    stripped = "strip"
    strict = "strict"


Against = Annotated[
    str | None, typer.Option(help="Row that the others are tested against; default: the first.", show_default=False)
]
TiesOption = Annotated[Ties, typer.Option(help="Rank of a tie: expected (fair) or best (optimistic).")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown on a terminal too, as a pipe gets it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@benchmark.command()
def quality(
    corpus: Annotated[str, typer.Option(help="squad, piaf or squad-fr-slice.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="File or folder of the corpus; squad without it: the Hub.", show_default=False)
    ] = None,
    query_lang: Annotated[str, typer.Option(help="Language of the questions: fr or en.")] = "fr",
    passage_lang: Annotated[str, typer.Option(help="Language of the passages: fr or en.")] = "fr",
    systems: Annotated[
        str, typer.Option(help='"all", or names, folders, Hub names separated by commas; A+B fuses two.')
    ] = "bm25-stemmed,tiny-fr-en-retriever",
    rerank: Annotated[
        str, typer.Option(help="Rankers, separated by commas: each reorders each system, as a row of its own.")
    ] = "",
    candidates: Annotated[
        int | None,
        typer.Option(
            help="Passages of a question that a ranker sees; default: 50, all by the rerankers' protocol.", **INTEGER
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave the rows that the folder holds with these settings.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of kept vectors; default: OUT/vectors.", show_default=False)
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="retriever: every question; reranker: the first question of each passage.")
    ] = Protocol.retriever,
    deduplicate: Annotated[Rule, typer.Option(help="Leave out questions equal to the letter, or once stripped.")] = (
        Rule.none
    ),
    ties: TiesOption = Ties.fair,
    against: Against = None,
    abstention: Annotated[
        bool, typer.Option("--abstention", help="Also ask the questions without an answer: when to keep silent.")
    ] = False,
    systems_file: Annotated[
        Path | None, typer.Option(help="YAML with systems and rankers of your own.", show_default=False)
    ] = None,
    pooling: Annotated[str | None, typer.Option(help="Of folders and Hub names: last, mean or cls.")] = None,
    metric: Annotated[str, typer.Option(help="Of folders and Hub names: cosine, l2 or dot.")] = "cosine",
    query_prefix: Annotated[str, typer.Option(help="Of folders and Hub names: before each question.", **TEXT)] = "",
    passage_prefix: Annotated[str, typer.Option(help="Of folders and Hub names: before each passage.", **TEXT)] = "",
    precision: Annotated[
        str | None,
        typer.Option(help='Of folders and Hub names: "int8", Bloom on a CPU.', show_default=False, **PRECISION),
    ] = None,
    question_first: Annotated[
        bool, typer.Option("--question-first", help="Rankers by folder or Hub name read the question first.")
    ] = False,
    score_prior: Annotated[
        float | None,
        typer.Option(
            help="Rankers by folder or Hub name: weight of the first stage's scores; default: its own.",
            show_default=False,
            **WEIGHT,
        ),
    ] = None,
    french_squad: Annotated[
        str | None, typer.Option(help="French translation of SQuAD on the Hub, without --data.", show_default=False)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: chosen.", show_default=False)] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens computed together.", **INTEGER)] = 2048,
    markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Rank all passages for every question with each system; write ranks, a table and a report with figures."""
    with one_line_errors(stopped=f"finished rows stay in {out}; the same command with --resume goes on from there"):
        quiet_libraries()
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from bloomz_haystack.benchmark.corpora.corpora import first_questions, read_corpus
        from bloomz_haystack.benchmark.run.quality import Options, measure_quality
        from bloomz_haystack.benchmark.systems.systems import choose_ranker, choose_systems, read_systems
        from bloomz_haystack.cli.progress import TerminalWatcher

        clean_up_when_stopped()
        hub = {"fr": french_squad} if french_squad else None
        read = read_corpus(corpus, data, query_lang, passage_lang, deduplicate.value, hub)
        if protocol is Protocol.reranker:
            read = first_questions(read)
        known, known_rankers = read_systems(systems_file)
        choice = choose_systems(
            systems,
            known,
            pooling=pooling,  # type: ignore[arg-type]  # checked there
            metric=metric,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
        )
        names = [name.strip() for name in rerank.split(",") if name.strip()]
        own = {"context_first": not question_first, "precision": precision, "score_prior": score_prior}
        rankers = [choose_ranker(name, known_rankers, **own) for name in names]  # type: ignore[arg-type]
        seen = candidates or (len(read.passages) if protocol is Protocol.reranker else 50)
        watcher = TerminalWatcher()
        try:
            measure_quality(
                read,
                corpus,
                protocol.value,
                choice,
                rankers,
                out,
                watcher,
                Options(seen, abstention, resume, cache, device, batch_tokens),
                command=_command(),
            )
        finally:
            watcher.stop()
        _report(out, ties, against, markdown, json)


@benchmark.command()
def table(
    results: Annotated[Path, typer.Argument(help="Folder written by bloomz benchmark quality.", show_default=False)],
    ties: TiesOption = Ties.fair,
    against: Against = None,
    markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Compute the table and the report again from kept ranks, without a model."""
    with one_line_errors(stopped="the ranks stay"):
        quiet_libraries()
        clean_up_when_stopped()
        _report(results, ties, against, markdown, json)


@benchmark.command()
def expected() -> None:
    """Print what the model cards publish, with the command that measures the same."""
    with one_line_errors(stopped="nothing was changed"):
        from bloomz_haystack.benchmark.report.expected import all_expected

        for published in all_expected():
            typer.echo(f"{published.title}\n  {published.command}")
            for name, values in published.rows.items():
                typer.echo(f"    {name}: " + ", ".join(f"{figure} {value:g}" for figure, value in values.items()))


def _report(folder: Path, ties: Ties, against: str | None, as_markdown: bool, json: bool) -> None:
    from bloomz_haystack.benchmark.report.html import as_json, write_report
    from bloomz_haystack.benchmark.report.table import markdown
    from bloomz_haystack.cli.console import show_markdown
    from bloomz_haystack.cli.output import print_json

    made = write_report(folder, ties.value, against)
    if json:
        print_json(as_json(made))
        return
    show_markdown(markdown(made), as_markdown)
    say(f"{folder}: table.md, report.html, results.json, rows/ (rank of every question)")


def _command() -> str:
    """What was typed; folders by their last name, since results are published and the paths of a machine are not."""
    words = ["bloomz", *(Path(word).name if word.startswith(("/", "~", ".")) else word for word in sys.argv[1:])]
    return " ".join(f'"{word}"' if " " in word else word for word in words)
