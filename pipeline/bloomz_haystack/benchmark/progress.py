"""A benchmark run -> a bar on the terminal: row, step, rate, time left; quiet when stderr is a file or a pipe."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class TerminalWatcher:
    """One bar at a time."""

    def __init__(self) -> None:
        """Prepare the bar; it shows at the first step."""
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.where = ""
        self.task: TaskID | None = None

    def row(self, name: str, number: int, rows: int) -> None:
        """Begin a row.

        :param name: of the row.
        :param number: from 1.
        :param rows: how many there are.
        """
        self.where = f"[{number}/{rows}] {name}"

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Begin a step; the bar of the one before is taken away.

        :param name: what is done.
        :param total: units of work.
        :returns: moves the bar.
        """
        self.progress.start()
        if self.task is not None:
            self.progress.remove_task(self.task)
        task = self.task = self.progress.add_task(f"{self.where} · {name}", total=max(total, 1), rate="")

        def done(units: int) -> None:
            self.progress.advance(task, units)
            state = next(item for item in self.progress.tasks if item.id == task)
            self.progress.update(task, rate=f"{state.completed / max(state.elapsed or 0.0, 1e-3):,.0f}/s")

        return done

    def note(self, text: str) -> None:
        """Say something in one line.

        :param text: the line.
        """
        self.console.print(f"bloomz: {text}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away."""
        self.progress.stop()
