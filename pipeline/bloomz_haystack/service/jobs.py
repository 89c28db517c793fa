"""Uploads -> passages in the store: one thread writes, file after file, while questions are answered.

A job that was accepted is done, even if the service is stopped meanwhile: what was sent lies in the store's folder
until it is indexed, and the next start goes on. The same reading, cutting and embedding as `bloomz index`.
"""

import logging
import os
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from bloomz_haystack.files.printable import printable
from bloomz_haystack.indexing.index import IndexProgress, IndexSummary, index_files
from bloomz_haystack.service.catalog import Catalog
from bloomz_haystack.service.document_types import JobFile, JobStatus
from bloomz_haystack.service.uploads import FOLDER, Upload, readable_name, replaced
from bloomz_haystack.settings import IndexSettings

logger = logging.getLogger(__name__)

MOST_WAITING = 100  # jobs
MOST_KEPT = 1000  # jobs that can still be asked for
UNFINISHED = ("queued", "running")
CATALOG_SECONDS = 2.0  # how old the list of files may be while a job runs: making it takes time
INCOMING = ".incoming"  # in the folder of uploads: what is not indexed yet, a folder per job


class TooManyJobsError(Exception):
    """So many jobs wait that no more are accepted."""


class Jobs:
    """The queue of uploads, and the thread that indexes them."""

    def __init__(self, store: Path, settings: IndexSettings, catalog: Catalog) -> None:
        """Start nothing yet.

        :param store: folder of the store.
        :param settings: of indexing.
        :param catalog: notified of every change.
        """
        self._store, self._settings, self._catalog = store, settings, catalog
        self._folder = store / FOLDER
        self.embedded = 0  # passages
        self._jobs: dict[str, JobStatus] = {}
        self._queue: queue.Queue[JobStatus | None] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Go on with what an earlier run has left, then with what comes."""
        incoming = self._folder / INCOMING
        for folder in sorted(incoming.iterdir()) if incoming.is_dir() else ():
            if folder.name.startswith("."):  # it was still being sent
                shutil.rmtree(folder, ignore_errors=True)
            else:
                names = sorted(os.listdir(folder))
                self._put(JobStatus(id=folder.name, files=[JobFile(name=name) for name in names], total=len(names)))
        self._thread.start()

    def close(self) -> None:
        """Stop after the block in hand; the rest is done after the next start."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def accept(self, uploads: Sequence[Upload]) -> JobStatus:
        """Keep files on the disk, and queue them.

        :param uploads: with safe names, each once.
        :returns: the job.
        :raises TooManyJobsError: if too many wait.
        :raises OSError: if the disk is full.
        """
        if self.waiting >= MOST_WAITING:
            raise TooManyJobsError
        name = f"{time.time_ns():x}-{secrets.token_hex(4)}"
        part = self._folder / INCOMING / f".{name}"
        part.mkdir(parents=True)
        try:
            files = [_kept(part, upload) for upload in uploads]
            part.rename(part.with_name(name))
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        done = sum(file.state == "failed" for file in files)
        return self._put(JobStatus(id=name, files=files, done=done, total=len(files)))

    def find(self, job: str) -> JobStatus | None:
        """Return a job.

        :param job: its id.
        :returns: it; None if there is none, or it was long ago.
        """
        return self._jobs.get(job)

    def busy(self) -> set[str]:
        """Return the names of the files that are queued or being indexed, as the store will call them."""
        return {file.name for job in self._unfinished() for file in job.files if file.state in UNFINISHED}

    def _unfinished(self) -> list[JobStatus]:
        return [job for job in list(self._jobs.values()) if job.state in UNFINISHED]

    def forget_files(self) -> None:
        """Delete the uploads of which the store holds nothing any more."""
        paths = list(self._folder.glob("[!.]*"))
        # In this order: what is in the folder is either in a job that is not done, or in the store.
        kept = {file.name for job in self._unfinished() for file in job.files} | self._catalog.uploaded()
        for path in paths:
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def _put(self, job: JobStatus) -> JobStatus:
        self._jobs[job.id] = job
        for old in list(self._jobs)[:-MOST_KEPT]:
            del self._jobs[old]
        self._queue.put(job)
        return job

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._stopping.is_set():
            start = time.perf_counter()
            job.state = "running"
            for file in job.files:
                if file.state == "queued":
                    self._index(job, file)
                    job.seconds = round(time.perf_counter() - start, 3)
                if self._stopping.is_set():
                    return
            self._catalog.changed()
            job.state = "failed" if all(file.state == "failed" for file in job.files) else "done"
            shutil.rmtree(self._folder / INCOMING / job.id, ignore_errors=True)
            logger.info("indexed", extra={"job": job.id, "files": job.total, "seconds": job.seconds})

    def _index(self, job: JobStatus, file: JobFile) -> None:
        file.state = "running"
        target = self._folder / file.name
        try:
            with replaced(target, self._folder / INCOMING / job.id / file.name):
                summary = index_files([target], self._store, self._settings, progress=_JobProgress(self, file))
                self.embedded += summary.embedded
                file.passages, file.problem = summary.passages, _problem(summary)
                if not summary.passages:
                    raise ValueError(file.problem or "there is no text in it")
        except _StoppedError:
            file.state = "queued"
            return
        except Exception as error:  # of the file, of the disk, of the store: the next file may do better
            expected = isinstance(error, ValueError)
            if not expected:
                logger.error("a file could not be indexed", extra={"job": job.id, "error": str(error)})
            file.problem = printable(error) if expected else "it could not be indexed: the server's log says why"
            file.state = "failed"
        else:
            file.state = "done"
        self._catalog.changed(CATALOG_SECONDS)
        job.done += 1

    def check_stopping(self) -> None:
        """Leave a file in the middle if the service is being stopped.

        :raises _StoppedError: if it is.
        """
        if self._stopping.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """The service is being stopped."""


class _JobProgress(IndexProgress):
    """Writes into a job how far a file is."""

    def __init__(self, jobs: Jobs, file: JobFile) -> None:
        self._jobs, self._file = jobs, file

    def advanced(self, summary: IndexSummary, bytes_done: int) -> None:
        """Note the passages that are in the store.

        :param summary: so far.
        :param bytes_done: of the file.
        """
        self._file.passages = summary.embedded + summary.unchanged
        self._jobs.check_stopping()


def _kept(folder: Path, upload: Upload) -> JobFile:
    """Write a file into the folder of its job, if it can be read."""
    try:
        name = readable_name(upload.name, upload.content)
    except ValueError as error:
        return JobFile(name=upload.name, state="failed", problem=str(error))
    if (folder / name).exists():
        return JobFile(name=upload.name, state="failed", problem=f"another file of this request is named {name!r}")
    with open(folder / name, "wb") as file:
        shutil.copyfileobj(upload.content, file)
        file.flush()
        os.fsync(file.fileno())
    return JobFile(name=name)


def _problem(summary: IndexSummary) -> str | None:
    """Return the first of what could not be read, and how much more there is."""
    if not summary.problems:
        return "; ".join(note.reason for note in summary.notes) or None
    first, more = summary.problems[0], len(summary.problems) - 1
    reason = first.reason if first.line is None else f"line {first.line}: {first.reason}"
    return f"{reason} (and {more} more)" if more else reason
