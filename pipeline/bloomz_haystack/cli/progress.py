"""A benchmark run, or a copy -> a bar on the terminal: rate, time left; quiet when stderr is a file or a pipe."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.progress import TaskID
from rich.text import Text

from bloomz_haystack.cli.console import console, progress_bar
from bloomz_haystack.files.printable import counted, printable

if TYPE_CHECKING:
    from bloomz_haystack.cluster.store_copy import CopySummary

COPY_SECONDS = 2  # a copy that takes less shows no bar


class TerminalWatcher:
    """One bar at a time."""

    def __init__(self) -> None:
        """Prepare the bar; it shows at the first step."""
        self.console = console(stderr=True)
        self.progress = progress_bar(self.console, "rate")
        self.where = ""
        self.task: TaskID | None = None

    def row(self, name: str, number: int, rows: int) -> None:
        """Begin a row.

        :param name: of the row.
        :param number: from 1.
        :param rows: how many there are.
        """
        self.where = printable(f"[{number}/{rows}] {name}")

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Begin a step; the bar of the one before is taken away.

        :param name: what is done.
        :param total: units of work.
        :returns: moves the bar.
        """
        self.progress.start()
        if self.task is not None:
            self.progress.remove_task(self.task)
        task = self.task = self.progress.add_task(f"{self.where} · {printable(name)}", total=max(total, 1), rate="")

        def done(units: int) -> None:
            self.progress.advance(task, units)
            state = next(item for item in self.progress.tasks if item.id == task)
            self.progress.update(task, rate=f"{state.completed / max(state.elapsed or 0.0, 1e-3):,.0f}/s")

        return done

    def note(self, text: str) -> None:
        """Print a note.

        :param text: the line.
        """
        self.console.print(Text(f"bloomz: {printable(text)}"), soft_wrap=True)

    def stop(self) -> None:
        """Remove the bar."""
        self.progress.stop()


class CopyBar:
    """The passages that were written to a store, or were there."""

    def __init__(self, doing: str) -> None:
        """Prepare the bar.

        :param doing: "copying" or "loading".
        """
        self.doing, self.begun = doing, time.monotonic()
        self.progress = progress_bar(console(stderr=True), "rate")
        self.task: TaskID | None = None

    def advanced(self, summary: "CopySummary") -> None:
        """Move the bar.

        :param summary: so far.
        """
        seconds = time.monotonic() - self.begun
        if seconds < COPY_SECONDS:
            return
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task(self.doing, total=max(summary.in_source, 1), rate="")
        rate = f"{counted(summary.read, 'passage')}, {summary.read / seconds:,.0f}/s"
        self.progress.update(self.task, completed=summary.read, rate=rate)

    def stop(self) -> None:
        """Remove the bar."""
        self.progress.stop()
