"""Systems and a corpus -> a folder of results, one system at a time; finished ones stay whatever happens.

The step that ties the others: first stage, second stage, files. Computes no figure.
"""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bloomz_haystack.benchmark.corpora.corpora import Corpus
from bloomz_haystack.benchmark.run.first_stage import Watcher, rank_passages
from bloomz_haystack.benchmark.run.results_folder import Row, RunFacts, begin, keep, read_row
from bloomz_haystack.benchmark.run.second_stage import Reranked, rerank_passages
from bloomz_haystack.benchmark.systems.cross_encoders import open_cross_encoder
from bloomz_haystack.benchmark.systems.systems import Choice, Ranker, System
from bloomz_haystack.files.provenance import git_commit
from bloomz_haystack.models.find import ModelNotAvailable

NOTHING = np.empty(0)
NOT_AVAILABLE = "not available here"


@dataclass(frozen=True)
class Options:
    """How the systems are run."""

    candidates: int = 50  # passages of each question that a ranker sees
    abstention: bool = False  # also ask the questions that have no answer
    resume: bool = False  # leave the rows that are there
    cache: Path | None = None  # of vectors, to be shared between runs; None: beside the results
    device: str | None = None
    batch_tokens: int = 2048


class RunWatcher(Watcher, Protocol):
    """Told which row is computed."""

    def row(self, name: str, number: int, rows: int) -> None:
        """Begin a row.

        :param name: of the row.
        :param number: from 1.
        :param rows: how many there are.
        """

    def note(self, text: str) -> None:
        """Print one line.

        :param text: the line.
        """


def measure_quality(
    corpus: Corpus,
    kind: str,
    protocol: str,
    choice: Choice,
    rankers: Sequence[Ranker],
    out: Path,
    watcher: RunWatcher,
    options: Options = Options(),  # frozen
    command: str = "",
) -> None:
    """Rank with every system, and with every ranker after it, and keep the ranks.

    :param corpus: Q questions over P passages.
    :param kind: its name on the command line.
    :param protocol: `retriever` or `reranker`, for the record.
    :param choice: the systems.
    :param rankers: each reorders the first candidates of each system, as a row of its own.
    :param out: folder of results.
    :param watcher: receives the progress.
    :param options: how.
    :param command: for the record.
    :raises ValueError: if the folder holds another run, or a system gives NaN; rows finished before are kept.
    """
    begin(out, run_facts(corpus, kind, protocol, command), corpus)
    pairs: list[tuple[System, Ranker | None]] = [
        (system, ranker) for system in choice.rows for ranker in (None, *rankers)
    ]
    for number, (system, ranker) in enumerate(pairs, start=1):
        name = row_name(system, ranker, min(options.candidates, len(corpus.passages)))
        watcher.row(name, number, len(pairs))
        settings = _settings(system, ranker, options)
        if options.resume and (kept := read_row(out, name)) is not None and _still_good(kept, settings, options):
            continue
        start = time.perf_counter()
        label = system.label if ranker is None else f"{system.label} > {ranker.label}"
        row = _empty_row(name, label, NOT_AVAILABLE, settings)
        try:
            row = _measure(row, corpus, choice, system, ranker, out, watcher, options)
        except ModelNotAvailable as error:
            watcher.note(str(error))
            row = replace(row, state=f"{NOT_AVAILABLE}: {error.reason}")
        keep(out, replace(row, seconds=round(time.perf_counter() - start, 1)))


def row_name(system: System, ranker: Ranker | None, candidates: int) -> str:
    """Name a row.

    :param system: first stage.
    :param ranker: second stage, or None.
    :param candidates: passages the ranker sees.
    :returns: what its file is called.
    """
    return system.name if ranker is None else f"{system.name} > {ranker.name} ({candidates})"


def run_facts(corpus: Corpus, kind: str, protocol: str, command: str) -> RunFacts:
    """Describe what is measured, and on what machine.

    :param corpus: of the run.
    :param kind: its name on the command line.
    :param protocol: `retriever` or `reranker`.
    :param command: that was typed.
    :returns: the facts.
    """
    measured = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": git_commit() or "not from a git clone",
        "machine": f"{platform.machine()}, {_cores()} cores",
        "python": platform.python_version(),
        "command": command,
        **{name: version(name) for name in ("bloomz-haystack", "torch", "transformers", "numpy")},
    }
    return RunFacts(
        corpus.name,
        kind,
        corpus.query_lang,
        corpus.passage_lang,
        protocol,
        corpus.rule,
        len(corpus.questions),
        len(corpus.unanswerable),
        len(corpus.passages),
        len({passage.theme for passage in corpus.passages} - {""}),
        corpus.files,
        measured,
    )


def _measure(
    row: Row,
    corpus: Corpus,
    choice: Choice,
    system: System,
    ranker: Ranker | None,
    out: Path,
    watcher: RunWatcher,
    options: Options,
) -> Row:
    # The weights of the ranker first: without them the first stage would be computed for nothing.
    second = open_cross_encoder(ranker, options.device, options.batch_tokens) if ranker else None
    asked = [*corpus.questions, *(corpus.unanswerable if options.abstention else [])]
    candidates = min(options.candidates, len(corpus.passages))
    ranking = rank_passages(
        choice,
        system,
        corpus,
        asked,
        depth=max(candidates, 1) if second else 1,
        cache=options.cache or out / "vectors",
        watcher=watcher,
        device=options.device,
        batch_tokens=options.batch_tokens,
    )
    if second is None:
        none = np.full(len(asked), np.nan)
        done = Reranked(ranking, none, ranking.candidate_scores[:, 0].astype(np.float64))
    else:
        try:
            done = rerank_passages(second, ranking, corpus, asked, candidates, watcher)
        finally:
            second.close()
    q = len(corpus.questions)
    return replace(
        row,
        state="measured",
        fair=done.ranking.fair[:q],
        optimistic=done.ranking.optimistic[:q],
        first=done.ranking.candidates[:q, 0],
        first_score=done.top[:q],
        gold_probability=done.probability[:q],
        unanswerable_score=done.top[q:],
    )


def _empty_row(name: str, label: str, state: str, settings: dict[str, Any]) -> Row:
    places = NOTHING.astype(np.int64)
    return Row(name, label, state, 0.0, settings, NOTHING, places, places, NOTHING, NOTHING, NOTHING)


def _settings(system: System, ranker: Ranker | None, options: Options) -> dict[str, Any]:
    """What a row is measured with, as JSON gives it back: lists, no tuples."""
    settings = asdict(system) | {"of": list(system.of)}
    return settings | ({"ranker": asdict(ranker), "candidates": options.candidates} if ranker else {})


def _still_good(row: Row, settings: dict[str, Any], options: Options) -> bool:
    """A row measured as is asked for now, and holding all of it; one that was not available is tried again."""
    return row.measured and row.settings == settings and (not options.abstention or len(row.unanswerable_score) > 0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
