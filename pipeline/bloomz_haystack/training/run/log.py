"""Figures of each step -> progress bar, `log.jsonl` (one line per interval), TensorBoard scalars (one per step)."""

import json
import logging
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from bloomz_haystack.training.config import RunConfig
from haystack_integrations.common.bloomz.whole_files import write_whole

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"


class Logbook:
    """The written record of a run; only the leading process writes."""

    def __init__(self, out: Path, first: int, run: RunConfig, leads: bool) -> None:
        """Start the record, or resume it.

        :param out: folder of the run.
        :param first: steps done before; later lines of the log are dropped, since those steps run again.
        :param run: its number of steps, and whether there are TensorBoard scalars.
        :param leads: whether this process writes.
        """
        self._path = out / LOG_FILE
        self._first = first
        self._steps = run.steps
        self._leads = leads
        self._began = time.perf_counter()
        self._interval: list[dict[str, float]] = []
        self._bar = tqdm(
            initial=first,
            total=run.steps,
            desc=f"train {out.name}",
            unit="step",
            disable=None if leads else True,  # None: quiet when piped
        )
        self._writer: Any = None
        if leads:
            _cut(self._path, first)
            if not first:
                shutil.rmtree(out / "tensorboard", ignore_errors=True)  # of another run
            self._writer = _writer(out / "tensorboard", first) if run.tensorboard else None

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._writer:
            self._writer.close()

    def step(self, step: int, figures: dict[str, float]) -> None:
        """Record the figures of a step.

        :param step: steps done.
        :param figures: value by name.
        """
        self._interval.append(figures)
        self._bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        self._bar.update()
        self._scalars(step, "train", figures)

    def interval(self, step: int, found: dict[str, float]) -> None:
        """Write a line: loss and speed averaged since the last one, current values of the rest, and the time left.

        :param step: steps done.
        :param found: validation figures.
        """
        last = self._interval[-1]
        means = {
            name: float(np.mean([figures[name] for figures in self._interval]))
            for name in ("loss", "tokens_per_second")
        }
        seconds = time.perf_counter() - self._began
        left = seconds / (step - self._first) * (self._steps - step)
        line = {"step": step, **last, **means, **found, "seconds": seconds, "seconds_left": left}
        self._interval = []
        self._scalars(step, "validation", found)
        if self._leads:
            with self._path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            logger.info(" ".join(f"{name} {value:.4g}" for name, value in line.items()))

    def _scalars(self, step: int, kind: str, figures: dict[str, float]) -> None:
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)


def _writer(folder: Path, first: int) -> Any:  # noqa: ANN401
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning('no TensorBoard scalars: pip install "bloomz-haystack[train]", or set run.tensorboard: false')
        return None
    return SummaryWriter(folder, purge_step=first + 1 if first else None)


def _cut(path: Path, step: int) -> None:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_whole(path, "".join(kept))
