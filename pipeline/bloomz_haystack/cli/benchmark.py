"""`bloomz benchmark` and its verbs; for `quality`, `table`, `expected`: read arguments, call the benchmark, print."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.arguments import INTEGER, PRECISION, TEXT, WEIGHT, JsonOption
from bloomz_haystack.cli.benchmark_mteb import mteb_verb
from bloomz_haystack.cli.benchmark_scale import scale
from bloomz_haystack.cli.benchmark_sentences import sentences_verb
from bloomz_haystack.cli.benchmark_serve import serve_benchmark_verb
from bloomz_haystack.cli.benchmark_speed import MarkdownTable, growth, speed
from bloomz_haystack.cli.errors import SETTINGS, one_line_errors, quiet_libraries, say
from bloomz_haystack.cli.signals import clean_up_when_stopped

benchmark = typer.Typer(help="Measure systems on questions whose right passage is known.", **SETTINGS)


class Protocol(StrEnum):
    """Which card's questions are asked."""

    retriever = "retriever"
    reranker = "reranker"


class Ties(StrEnum):
    """How ties are ranked."""

    fair = "fair"
    optimistic = "optimistic"


class Rule(StrEnum):
    """Which duplicate questions are dropped."""

    none = "none"
    stripped = "strip"
    strict = "strict"


Against = Annotated[
    str | None, typer.Option(help="Baseline row of the significance tests; default: the first.", show_default=False)
]
TiesOption = Annotated[Ties, typer.Option(help="Rank of a tie: expected (fair) or best (optimistic).")]
FEW = {"hidden": True, "show_default": False}  # what a --systems-file says better; read for one version more


@benchmark.command()
def quality(
    corpus: Annotated[str, typer.Option(help="squad, piaf or squad-fr-slice.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(help="File or folder of the corpus; squad can come from the Hub instead.", show_default=False),
    ] = None,
    query_lang: Annotated[str, typer.Option(help="Language of the questions: fr or en.")] = "fr",
    passage_lang: Annotated[str, typer.Option(help="Language of the passages: fr or en.")] = "fr",
    systems: Annotated[
        str, typer.Option(help='"all", or names, folders and Hub names, separated by commas; A+B fuses two.')
    ] = "bm25-stemmed,tiny-fr-en-retriever",
    rerank: Annotated[
        str, typer.Option(help="Rankers, separated by commas; each is run after each system, as a separate row.")
    ] = "",
    candidates: Annotated[
        int | None,
        typer.Option(
            help="Passages per question given to a ranker; default: 50, or all with --protocol reranker.", **INTEGER
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results.")] = Path("results"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished rows of OUT that have these settings.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the vector cache; default: OUT/vectors.", show_default=False)
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="retriever: all questions; reranker: the first question of each passage.")
    ] = Protocol.retriever,
    deduplicate: Annotated[
        Rule, typer.Option(help="Drop duplicate questions: identical (strict), or identical once stripped (strip).")
    ] = (Rule.none),
    ties: TiesOption = Ties.fair,
    against: Against = None,
    abstention: Annotated[
        bool,
        typer.Option(
            "--abstention", help="Also ask unanswerable questions, to find the best threshold for not answering."
        ),
    ] = False,
    systems_file: Annotated[
        Path | None, typer.Option(help="YAML file with your own systems and rankers.", show_default=False)
    ] = None,
    french_squad: Annotated[
        str | None, typer.Option(help="Hub name of a French SQuAD, used without --data.", show_default=False)
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: chosen.", show_default=False)] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens computed together.", **INTEGER)] = 2048,
    markdown: MarkdownTable = False,
    json: JsonOption = False,
    pooling: Annotated[str | None, typer.Option(**FEW)] = None,
    metric: Annotated[str | None, typer.Option(**FEW)] = None,
    query_prefix: Annotated[str | None, typer.Option(**FEW, **TEXT)] = None,
    passage_prefix: Annotated[str | None, typer.Option(**FEW, **TEXT)] = None,
    precision: Annotated[str | None, typer.Option(**FEW, **PRECISION)] = None,
    question_first: Annotated[bool, typer.Option("--question-first", **FEW)] = False,
    score_prior: Annotated[float | None, typer.Option(**FEW, **WEIGHT)] = None,
) -> None:
    """Rank all passages for every question with each system; write ranks, a table and a report."""
    with one_line_errors(stopped=f"finished rows are kept in {out}; add --resume to continue"):
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
        of_systems = _given(
            pooling=pooling,
            metric=metric,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            precision=precision,
        )
        of_rankers = _given(
            context_first=False if question_first else None, precision=precision, score_prior=score_prior
        )
        if of_systems or of_rankers:
            keys = ", ".join(of_systems | of_rankers)
            say(f"give {keys} in an entry of a --systems-file: the next version no longer reads the options for it")
        choice = choose_systems(systems, known, of_systems)
        names = [name.strip() for name in rerank.split(",") if name.strip()]
        rankers = [choose_ranker(name, known_rankers, of_rankers) for name in names]
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
    markdown: MarkdownTable = False,
    json: JsonOption = False,
) -> None:
    """Rebuild the table and the report from saved ranks, without a model."""
    with one_line_errors(stopped="the ranks stay"):
        quiet_libraries()
        clean_up_when_stopped()
        _report(results, ties, against, markdown, json)


@benchmark.command()
def expected() -> None:
    """Print the published figures, each with the command that reproduces it."""
    with one_line_errors(stopped="nothing was changed"):
        from bloomz_haystack.benchmark.report.expected import all_expected

        for published in all_expected():
            typer.echo(f"{published.title}\n  {published.command}")
            for name, values in published.rows.items():
                typer.echo(f"    {name}: " + ", ".join(f"{figure} {value:g}" for figure, value in values.items()))


benchmark.command("mteb")(mteb_verb)
benchmark.command("sentences")(sentences_verb)
benchmark.command("serve")(serve_benchmark_verb)
benchmark.command()(speed)
benchmark.command()(growth)
benchmark.command()(scale)


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _report(folder: Path, ties: Ties, against: str | None, as_markdown: bool, json: bool) -> None:
    from bloomz_haystack.benchmark.report.files import table_values, write_report
    from bloomz_haystack.benchmark.report.sheets import table_markdown
    from bloomz_haystack.cli.console import show_markdown
    from bloomz_haystack.cli.output import print_json

    made = write_report(folder, ties.value, against)
    if json:
        print_json(table_values(made))
        return
    show_markdown(table_markdown(made), as_markdown)
    say(f"{folder}: table.md, report.html, results.json, rows/ (rank of every question)")


def _command() -> str:
    """Return what was typed; folders by their last name: results are published, the paths of a machine are not."""
    words = ["bloomz", *(Path(word).name if word.startswith(("/", "~", ".")) else word for word in sys.argv[1:])]
    return " ".join(f'"{word}"' if " " in word else word for word in words)
