"""A number of threads -> the same limit for every library that is timed: torch, OpenMP, MKL, OpenBLAS, Rayon.

Imports nothing heavy: most libraries read their limit once, from the environment, while they are imported.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_threads(asked: int | None) -> int:
    """Check a number of threads.

    :param asked: None takes every core that this process may use.
    :returns: the number.
    :raises ValueError: if it is not positive, or more than there are cores: two threads on one core time the scheduler.
    """
    cores = available_cores()
    if asked is not None and not 1 <= asked <= cores:
        raise ValueError(f"--threads must be between 1 and {cores}, the cores of this process, but got {asked}")
    return asked or cores


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Hold every library to so many threads; enter it before torch and numpy are imported.

    The process is also held to so many cores where the system allows (Linux): Qdrant Edge has threads of its own, which
    read no variable.

    :param threads: from `choose_threads`.
    :yields: nothing; the torch and core limits of before come back at the end.
    """
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)), TOKENIZERS_PARALLELISM="false")
    with ExitStack() as undo:
        if hasattr(os, "sched_setaffinity"):
            before = os.sched_getaffinity(0)
            undo.callback(os.sched_setaffinity, 0, before)
            os.sched_setaffinity(0, sorted(before)[:threads])
        import torch

        undo.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads)
        try:
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
        except ImportError:
            pass  # the variables suffice where numpy was not imported yet
        else:
            undo.enter_context(threadpool_limits(threads))
        yield
