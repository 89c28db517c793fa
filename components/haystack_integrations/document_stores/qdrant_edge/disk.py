"""What Edge, the disk and its permissions refuse -> one line that says what is so and what to do; room on the disk.

This file knows nothing of documents, and of Edge only how its messages read.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from haystack.document_stores.errors import DocumentStoreError

DISK_RESERVE = 64_000_000  # bytes: a new segment of Edge's log takes 32 MB at once
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
OPEN_FILES = Path("/proc/self/fd")
EDGE_ERRNO = re.compile(r"\(os error (\d+)\)")


class StoreHeldError(DocumentStoreError):
    """Another process holds the folder; it may let go of it."""


@contextmanager
def edge_errors(folder: Path) -> Iterator[None]:
    """Turn what Edge (a bare `Exception`) and the disk (`OSError`) throw into a one-line DocumentStoreError.

    :param folder: the folder of the store, for the message.
    :yields: nothing.
    :raises DocumentStoreError: in place of theirs.
    """
    try:
        yield
    except OSError as error:
        raise DocumentStoreError(_explain(folder, error.errno, str(error))) from error
    except Exception as error:
        if type(error) is not Exception:  # Edge throws the base class itself; anything else is ours or Python's
            raise
        reason = str(error).replace("\n", " ")
        if "WAL" in reason and "WouldBlock" in reason:
            raise StoreHeldError(
                f"the document store at {folder} is open in another process: stop that process or close its store "
                "(a server, a notebook, an indexing run), or give another path; a folder serves one process at a time"
            ) from error
        if code := EDGE_ERRNO.search(reason):
            raise DocumentStoreError(_explain(folder, int(code[1]), f"{reason:.300}")) from error
        raise DocumentStoreError(f"Qdrant Edge failed at {folder}: {reason:.500}") from error


def _explain(folder: Path, code: int | None, reason: str) -> str:
    writes = "Qdrant Edge writes even to search"
    if code == errno.EROFS:
        return (
            f"the document store at {folder} is on a read-only file system, and {writes}: copy the folder to where you "
            "may write and give that path, or ask a process that may write to serve it"
        )
    if code in NOT_ALLOWED:
        return (
            f"this user may not read and write all of the document store at {folder}, and {writes} ({reason}): give "
            "the rights with chmod -R u+rwX or chown -R, or copy the folder and give the path of the copy"
        )
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return f"the disk is full under the document store at {folder}: {reason}; what was reported written is kept"
    return f"the disk failed under the document store at {folder}: {reason}; what was reported written is kept"


def check_room(folder: Path, growth: int) -> None:
    """Refuse to write where the disk would run full.

    Edge writes through memory maps of sparse files: on a full disk the process does not get an error but dies of
    SIGBUS (tried on a full tmpfs; what had been reported written was there after a reopening).

    :param folder: the folder of the store.
    :param growth: bytes about to be written.
    :raises OSError: if less than that and `DISK_RESERVE` is free.
    """
    free, needed = shutil.disk_usage(folder).free, growth + DISK_RESERVE
    if free < needed:
        need = f"{free / 1e6:.0f} MB are free and {needed / 1e6:.0f} MB are needed"
        raise OSError(errno.ENOSPC, f"{need}: free some space, then index again")


def leave_files(folder: Path) -> None:
    """Let go, in a forked child, of the files that the parent has open in a folder, and so of their locks.

    Their numbers stay taken, by /dev/null: Edge still believes that they are its own. Where the system does not list a
    process's open files, the parent's lock lasts as long as its children.

    :param folder: any.
    """
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR)
        for entry in list(OPEN_FILES.iterdir()):
            with suppress(OSError):
                if Path(os.readlink(entry)).is_relative_to(folder):
                    os.dup2(nothing, int(entry.name), inheritable=False)
        os.close(nothing)
