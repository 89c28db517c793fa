"""Summaries and answers -> the terminal. Answers go to stdout; progress, notes and problems to stderr."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bloomz_haystack.asking import Answer, FoundPassage
from bloomz_haystack.indexing import Summary
from bloomz_haystack.pipelines import FILE_FIELD
from bloomz_haystack.problems import Problem

LONGEST_TEXT = 400  # characters of a passage shown; --json gives it whole


class ProgressWatcher:
    """A progress bar on a terminal, nothing when stderr is a file or a pipe; problems are named in both."""

    def __init__(self) -> None:
        """Prepare the bar; it shows at ``started``."""
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.task: TaskID | None = None

    def started(self, total_bytes: int) -> None:
        """Show the bar; its length is the size of the files, since the passages are not known yet.

        :param total_bytes: of all the files.
        """
        self.progress.start()
        self.task = self.progress.add_task("indexing", total=max(total_bytes, 1), speed="")

    def advanced(self, summary: Summary, bytes_done: int) -> None:
        """Move the bar.

        :param summary: so far.
        :param bytes_done: of the files read.
        """
        if self.task is not None:
            elapsed = self.progress.tasks[0].elapsed or 0.0
            done = summary.embedded + summary.unchanged
            speed = f"{done:,} passages, {done / max(elapsed, 1e-3):,.1f}/s"
            self.progress.update(self.task, completed=bytes_done, speed=speed)

    def problem(self, problem: Problem) -> None:
        """Name what could not be read.

        :param problem: file, line, reason.
        """
        # Printed through the bar's console, which redraws the bar below; no markup: a file may be named "[red]".
        self.console.print(f"bloomz: {problem}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away."""
        self.progress.stop()


def show_summary(summary: Summary) -> None:
    """Print what an indexing run did.

    :param summary: of the run.
    """
    lines = [
        f"{summary.passages:,} passages in {_count(summary.files, 'file')}: {summary.embedded:,} embedded, "
        f"{summary.unchanged:,} unchanged, {summary.removed:,} removed from the store",
        f"{summary.seconds:.1f} s, {summary.passages_per_second:,.1f} passages/s; model {summary.model}; "
        f"store {summary.store}",
    ]
    if summary.other_kinds:
        lines.append(f"{_count(summary.other_kinds, 'file')} of other kinds left aside")
    if summary.empty:
        lines.append(f"{_count(len(summary.empty), 'file')} without text: {', '.join(summary.empty[:5])}")
    if summary.problems:
        files = len({problem.file for problem in summary.problems})
        lines.append(f"{_count(len(summary.problems), 'problem')} in {_count(files, 'file')}, named above and skipped")
    for line in lines:
        print(line)  # noqa: T201


def summary_as_json(summary: Summary) -> dict[str, object]:
    """Give what ``bloomz index --json`` prints.

    :param summary: of the run.
    :returns: plain values.
    """
    return {
        "files": summary.files,
        "passages": summary.passages,
        "embedded": summary.embedded,
        "unchanged": summary.unchanged,
        "removed": summary.removed,
        "other_kinds": summary.other_kinds,
        "empty": summary.empty,
        "problems": [problem._asdict() for problem in summary.problems],
        "seconds": round(summary.seconds, 3),
        "passages_per_second": round(summary.passages_per_second, 1),
        "model": summary.model,
        "store": summary.store,
    }


def show_answer(answer: Answer, threshold: float | None) -> None:
    """Print the passages, best first, or a sentence when there are none.

    :param answer: of ``ask``.
    :param threshold: what was asked for.
    """
    if not answer.stored:
        print("The store is empty: index some files first.")  # noqa: T201
        return
    if not answer.documents:
        print(f"No passage reaches a probability of {threshold:g}: lower --threshold, or ask otherwise.")  # noqa: T201
        return
    table = Table(show_edge=False, pad_edge=False, expand=False)
    for name in ("#", "probability", "fused" if answer.hybrid else "cosine"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("passage", overflow="fold")
    for rank, passage in enumerate(answer.documents, start=1):
        heading = Text(_origin(passage), style="bold")
        text = Text.assemble(heading, "\n", _shortened(passage))
        table.add_row(str(rank), f"{passage.score:.3f}", f"{passage.similarity:.3f}", text, end_section=True)
    Console().print(table)
    steps = ", ".join(f"{step} {1000 * seconds:.0f} ms" for step, seconds in answer.seconds.items())
    Console(stderr=True, highlight=False).print(f"{answer.stored:,} passages in the store; {steps}", style="dim")


def _origin(passage: FoundPassage) -> str:
    file = str(passage.meta.get(FILE_FIELD, "")) or passage.id[:12]
    try:
        file = os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else Path(file).name
    except OSError:  # the current folder is gone
        file = Path(file).name
    page = passage.meta.get("page_number")
    title = passage.meta.get("title")
    return " · ".join([str(title)] * bool(title) + [file] + [f"p. {page}"] * bool(page))


def _shortened(passage: FoundPassage) -> str:
    first, _, rest = passage.content.partition("\n")
    repeated = rest and first.strip() == passage.meta.get("title")  # it stands in the heading already
    flat = " ".join((rest if repeated else passage.content).split())
    return flat if len(flat) <= LONGEST_TEXT else flat[: LONGEST_TEXT - 1].rsplit(" ", 1)[0] + "…"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def print_json(value: object) -> None:
    """Print one JSON object on one line of stdout, in UTF-8 whatever the terminal.

    :param value: plain values.
    """
    import json

    sys.stdout.buffer.write(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    sys.stdout.flush()
