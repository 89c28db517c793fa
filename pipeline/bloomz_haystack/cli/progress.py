"""A benchmark run -> a bar on the terminal: row, step, rate, time left; quiet when stderr is a file or a pipe."""

from collections.abc import Callable

from rich.progress import TaskID
from rich.text import Text

from bloomz_haystack.cli.console import console, progress_bar
from bloomz_haystack.files.printable import printable


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
