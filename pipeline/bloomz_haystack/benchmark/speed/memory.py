"""A run -> its result and the memory it took on top of what was there: weights, stores and texts are not counted."""

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def run_measuring_memory(run: Callable[[], T], device: torch.device) -> tuple[T, int | None]:
    """Run once and measure.

    :param run: what to run.
    :param device: whose memory: on CUDA that of torch, on a CPU the resident memory of the process.
    :returns: its result; bytes, or None where the system does not tell (a CPU outside Linux).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = run()
        torch.cuda.synchronize(device)
        return result, torch.cuda.max_memory_allocated(device) - before
    resident = _forget_peak()
    result = run()
    return result, None if resident is None else max(_status("VmHWM") - resident, 0)


def _forget_peak() -> int | None:
    """Free memory, reset the kernel's peak to what is resident now, and return that, in bytes."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(AttributeError):  # another libc than glibc
        ctypes.CDLL(None).malloc_trim(0)  # else a run hides in what the one before it freed
    try:
        _CLEAR.write_text("5")
        return _status("VmRSS")
    except (OSError, StopIteration):
        return None


def _status(field: str, path: Path = _STATUS) -> int:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def own_memory() -> int | None:
    """Return what the process holds itself, without the files it maps, which the system takes back when it needs room.

    :returns: bytes, or None where the system does not tell (outside Linux).
    """
    try:
        return _status("RssAnon")
    except (OSError, StopIteration):
        return None


def peak_memory(process: int) -> int | None:
    """Return the most that a process has had resident.

    :param process: its id.
    :returns: bytes, or None where the system does not tell (outside Linux).
    """
    try:
        return _status("VmHWM", Path(f"/proc/{process}/status"))
    except (OSError, StopIteration):
        return None
