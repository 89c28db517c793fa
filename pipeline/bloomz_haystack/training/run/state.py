"""The state of a run <-> one file, so that a run that was killed and resumed ends with the same weights.

Trained weights in float32 (the checkpoint itself is float16), the optimizer, the schedule, the best score so far. A
batch depends on the seed and the step alone, so nothing else is needed.
"""

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from haystack_integrations.common.bloomz.whole_files import replacing

STATE_FILE = "resume.pt"


class RunProgress(NamedTuple):
    """How far a run has come: steps done, and the best validation score."""

    step: int = 0
    best: float = -math.inf


class State(NamedTuple):
    """All that changes during a run, and the file's folder.

    `settings` are plain values: a run resumes with equal ones only. `trained` holds every tensor that is trained,
    by name.
    """

    out: Path
    settings: dict[str, Any]
    trained: Mapping[str, torch.Tensor]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


def save_state(state: State, done: RunProgress) -> None:
    """Write the state atomically.

    :param state: to write.
    :param done: so far.
    :raises OSError: if the disk is full; the last state is kept.
    """
    values = {
        "step": done.step,
        "best": done.best,
        "settings": json.dumps(state.settings, sort_keys=True),
        "trained": {name: tensor.detach() for name, tensor in state.trained.items()},
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
    }
    with replacing(state.out / STATE_FILE) as part:
        try:
            torch.save(values, part)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(
                f"cannot write {part} ({str(error).splitlines()[0]}): make room, then resume with --resume"
            ) from None


def load_state(state: State) -> RunProgress:
    """Load the state.

    :param state: changed in place.
    :returns: progress so far.
    :raises ValueError: if there is no state, it cannot be read, or the settings differ (names them).
    """
    path = state.out / STATE_FILE
    if not path.is_file():
        raise ValueError(f"{state.out} holds no unfinished run ({STATE_FILE}): leave --resume out to start one")
    try:
        kept = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is torn ({str(error).splitlines()[0]}): leave --resume out to start again") from None
    differing = sorted(_differing(json.loads(json.dumps(state.settings)), json.loads(kept["settings"])))
    if differing:
        raise ValueError(f"{state.out} was started with another {', '.join(differing)}: resume with the same settings")
    with torch.no_grad():
        for name, tensor in state.trained.items():
            tensor.copy_(kept["trained"][name])
    state.optimizer.load_state_dict(kept["optimizer"])
    state.schedule.load_state_dict(kept["schedule"])
    return RunProgress(kept["step"], kept["best"])


def end_state(out: Path) -> None:
    """Delete the state of a finished run.

    :param out: folder of the run.
    """
    (out / STATE_FILE).unlink(missing_ok=True)


def _differing(now: dict[str, Any], kept: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as section.key."""
    names: list[str] = []
    for key in now.keys() | kept.keys():
        one, other = now.get(key), kept.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _differing(one, other, f"{prefix}{key}.")
        elif one != other:
            names.append(prefix + key)
    return names
