"""The state of a run <-> one file, so that a run that was killed goes on to the same weights as if it had not been.

Weights in float32 (the checkpoint itself is float16), the parameters beside them, the optimiser, the schedule. A batch
depends on the seed and the step alone, so nothing else is needed.
"""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

STATE_FILE = "resume.pt"
Schedule = torch.optim.lr_scheduler.LRScheduler


def save_state(
    out: Path,
    step: int,
    settings: dict[str, Any],
    model: nn.Module,
    extra: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
) -> None:
    """Write the state, whole or not at all.

    :param out: folder of the run.
    :param step: steps done.
    :param settings: plain values; a run goes on with equal ones only.
    :param model: being trained.
    :param extra: parameters outside the model.
    :param optimizer: with its moments.
    :param schedule: of the learning rate.
    """
    state = {
        "step": step,
        "settings": json.dumps(settings, sort_keys=True),
        "model": model.state_dict(),
        "extra": [parameter.detach() for parameter in extra],
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    part = out / f"{STATE_FILE}.part"
    torch.save(state, part)
    part.replace(out / STATE_FILE)


def load_state(
    out: Path,
    settings: dict[str, Any],
    model: nn.Module,
    extra: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
) -> int:
    """Put everything back as it was.

    :param out: folder of the run.
    :param settings: those of now.
    :param model: changed in place.
    :param extra: changed in place.
    :param optimizer: changed in place.
    :param schedule: changed in place.
    :returns: steps done.
    :raises ValueError: if there is nothing to go on from, it cannot be read, or the settings differ (names them).
    """
    path = out / STATE_FILE
    if not path.is_file():
        raise ValueError(f"{out} holds no unfinished run ({STATE_FILE}): leave --resume out to begin one")
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is torn ({str(error).splitlines()[0]}): leave --resume out to begin again") from None
    kept = json.loads(state["settings"])
    now = json.loads(json.dumps(settings))
    differing = sorted(key for key in now if now[key] != kept.get(key))
    if differing:
        raise ValueError(f"{out} was begun with another {', '.join(differing)}: go on with the same settings")
    model.load_state_dict(state["model"])
    with torch.no_grad():
        for parameter, value in zip(extra, state["extra"], strict=True):
            parameter.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    _cut_log(out / "log.jsonl", state["step"])
    return int(state["step"])


def end_state(out: Path) -> None:
    """Drop the state of a finished run.

    :param out: folder of the run.
    """
    (out / STATE_FILE).unlink(missing_ok=True)


def _cut_log(path: Path, step: int) -> None:
    """Drop what was logged after the state was written: those steps are done again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    path.write_text("".join(kept), encoding="utf-8")
