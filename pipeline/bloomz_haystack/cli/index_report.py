"""An indexing run -> the terminal: what it did on stdout, progress and problems on stderr."""

import time

from rich.progress import TaskID
from rich.text import Text

from bloomz_haystack.cli.console import console, progress_bar
from bloomz_haystack.cli.output import print_lines
from bloomz_haystack.files.printable import counted, printable
from bloomz_haystack.indexing.files import Note, Problem
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary


class IndexBar(IndexProgress):
    """A progress bar on a terminal, nothing if stderr is a file or a pipe; problems are printed in both."""

    def __init__(self) -> None:
        """Prepare the bar; it shows at `started`."""
        self.console = console(stderr=True)
        self.progress = progress_bar(self.console, "speed")
        self.task: TaskID | None = None
        self.first: tuple[int, float] | None = None

    def started(self, total_bytes: int) -> None:
        """Show the bar; its length is the size of the files, since the passages are not known yet.

        :param total_bytes: of all the files.
        """
        self.progress.start()
        self.task = self.progress.add_task("indexing", total=max(total_bytes, 1), speed="")

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        """Move the bar.

        :param summary: so far.
        :param bytes_done: of the files read.
        """
        done, now = summary.embedded + summary.unchanged, time.perf_counter()
        if self.first is None:  # the model was loaded before this block was done: speed counts from here
            self.first = done, now
        if self.task is not None:
            speed = (done - self.first[0]) / max(now - self.first[1], 1e-3)
            speed_text = (
                f"{counted(done, 'passage')}, {speed:,.1f}/s" if done > self.first[0] else counted(done, "passage")
            )
            self.progress.update(self.task, completed=bytes_done, speed=speed_text)

    def problem(self, problem: Problem | Note) -> None:
        """Print what could not be read, or not for certain.

        :param problem: file, reason.
        """
        # Printed through the bar's console, which redraws the bar below.
        self.console.print(Text(f"bloomz: {printable(problem)}"), soft_wrap=True)

    def stop(self) -> None:
        """Remove the bar."""
        self.progress.stop()


def show_summary(summary: IndexSummary) -> None:
    """Print what an indexing run did.

    :param summary: of the run.
    """
    lines = [
        f"{counted(summary.passages, 'passage')} in {counted(summary.files, 'file')}: {summary.embedded:,} embedded, "
        f"{summary.unchanged:,} unchanged, {summary.removed:,} removed from the store",
        speed_line(summary),
        f"model {summary.model}",
        f"store {summary.store}",
    ]
    if summary.nothing_done:
        lines.insert(0, "Nothing was indexed: no text in what was given")
    print_lines([*lines, *left_aside(summary)])


def speed_line(summary: IndexSummary) -> str:
    """Return how long a run took."""
    seconds = f"{summary.seconds - summary.loading_seconds:.1f} s, {summary.passages_per_second:,.1f} passages/s"
    loading = f", after {summary.loading_seconds:.1f} s to load the model"
    return seconds + loading * (summary.loading_seconds >= 0.05)


def left_aside(summary: IndexSummary) -> list[str]:
    """Return what was not read, a line each."""
    lines = []
    if kinds := summary.other_kinds:
        each = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        lines.append(f"{counted(sum(kinds.values()), 'file')} of other kinds left aside: {each}")
    if summary.empty:
        lines.append(f"{counted(len(summary.empty), 'file')} without text: {', '.join(summary.empty[:5])}")
    if summary.problems:
        files = len({problem.file for problem in summary.problems})
        lines.append(
            f"{counted(len(summary.problems), 'problem')} in {counted(files, 'file')}, named above and skipped"
        )
    return lines


def summary_as_json(summary: IndexSummary) -> dict[str, object]:
    """Return what `bloomz index --json` prints.

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
        "notes": [note._asdict() for note in summary.notes],
        "seconds": round(summary.seconds, 3),
        "passages_per_second": round(summary.passages_per_second, 1),
        "model": summary.model,
        "store": summary.store,
    }
