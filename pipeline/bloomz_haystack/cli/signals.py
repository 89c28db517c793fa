"""Ctrl-C, SIGTERM and a closed pipe -> a quiet exit with the code that shells expect: 130, 143, 141.

Imported before anything that takes time. While libraries are being imported nothing has been written and nothing can be
cleaned up, so the process leaves at once: an exception in the middle of an import may be swallowed by it.
"""

import os
import signal
import sys
from types import FrameType

STOPPED = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C is: stores are closed and the cursor comes back."""


def leave_at_once_when_stopped() -> None:
    """Leave without a word of Python's when stopped; for the time of imports."""
    for number in STOPPED:
        _handle(number, _leave)


def clean_up_when_stopped() -> None:
    """Raise `KeyboardInterrupt` or `Terminated` when stopped; from now on there is something to clean up."""
    if signal.getsignal(signal.SIGINT) is _leave:
        _handle(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is _leave:
        _handle(signal.SIGTERM, _terminate)


def end_when_stopped() -> None:
    """Leave at once and in silence when stopped; all is done, and only Python's own end is left."""
    for number in STOPPED:
        _handle(number, lambda number, _: os._exit(STOPPED[signal.Signals(number)]))


def forget_closed_pipe() -> None:
    """Send to nowhere what can no longer be printed, else Python complains about it when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _handle(number: signal.Signals, handler: object) -> None:
    if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in a job of a shell's background
        signal.signal(number, handler)  # type: ignore[arg-type]


def _leave(number: int, _: FrameType | None) -> None:
    try:
        os.write(2, b"bloomz: stopped; nothing was changed\n")
    finally:
        os._exit(STOPPED[signal.Signals(number)])


def _terminate(*_: object) -> None:
    raise Terminated
