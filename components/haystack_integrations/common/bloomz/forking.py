"""What a forked child (gunicorn --preload, multiprocessing) needs to go on computing instead of hanging.

The threads of OpenMP, and those that held a lock, do not survive a fork: the child would wait for them for ever. One
thread needs nobody, and a new lock is free. Knows nothing of models.
"""

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Protocol
from weakref import WeakSet

import torch


class ForkSafeLock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        """Make the lock, and register it, weakly, for every fork to come."""
        self._lock = threading.Lock()
        renew_after_fork(self)

    def __enter__(self) -> None:
        """Wait for it."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Let it go."""
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.Lock()


class Renewable(Protocol):
    """What must start afresh in a forked child."""

    def renew(self) -> None:
        """Forget the threads of the parent."""


def renew_after_fork(renewable: Renewable) -> None:
    """Have `renew` called in every forked child, for as long as the object lives.

    :param renewable: is held weakly.
    """
    _renewables.add(renewable)
    _watch_forks()


_renewables: WeakSet[Renewable] = WeakSet()


@cache
def compute_alone_after_fork() -> None:
    """Compute on one thread in every forked child; to be called before this process computes anything."""
    _after_fork(lambda: torch.set_num_threads(1))


@cache
def _watch_forks() -> None:
    _after_fork(_renew_all)


def _after_fork(act: Callable[[], object]) -> None:
    if hasattr(os, "register_at_fork"):  # Windows starts new processes only
        os.register_at_fork(after_in_child=act)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew()
