"""A source too large for memory -> the objects it holds, streamed through `datasets` and shuffled with a buffer.

The order depends on the seed and the epoch alone. A resumed run reads the stream from its beginning and skips what was
used: only the step needs to be remembered.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from bloomz_haystack.training.data.files import FileEntry

BUFFER = 5_000  # rows among which the next one is drawn; one of cmarkea/mmarco-contrastive takes about 75 KB
SPLIT = "train"


def hub_entries(name: str, seed: int, epoch: int, buffer: int = BUFFER) -> Iterator[FileEntry]:
    """Yield one epoch of a data set on the Hub.

    :param name: `owner/name`, or a folder that `datasets.load_dataset` reads.
    :param seed: of the order.
    :param epoch: from 0; each has its own order.
    :param buffer: rows held in memory.
    :yields: place, with the row's number in the stream from 1 and its own id, and values.
    :raises ValueError: if it cannot be read, or breaks off.
    :raises ImportError: without the package `datasets`.
    """
    datasets = _datasets()
    number = 0
    try:
        rows = datasets.load_dataset(name, split=SPLIT, streaming=True)
        for number, values in enumerate(_shuffled(rows, seed, epoch, buffer), start=1):
            yield f"{name}: row {number} of the stream, id {values.get('id')!r}", values
    # `datasets` and the libraries below it raise errors of their own; all mean the same to the user.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"cannot read the data set {name} after row {number} of the stream: {reason}") from error


def file_stream(
    files: Sequence[Path],
    read: Callable[[Path], Iterator[FileEntry]],
    seed: int,
    epoch: int,
    buffer: int = BUFFER,
) -> Iterator[FileEntry]:
    """Yield one epoch of files on disk without holding them in memory.

    :param files: at least one.
    :param read: yields the entries of a file.
    :param seed: of the order of the files, and of the rows within the buffer.
    :param epoch: from 0; each has its own order.
    :param buffer: rows held in memory.
    :yields: place and values.
    :raises ImportError: without the package `datasets`.
    """

    def entries(files: list[Path]) -> Iterator[dict[str, Any]]:
        for place, values in chain.from_iterable(map(read, files)):
            yield {"place": place, "values": values}

    rows = _datasets().IterableDataset.from_generator(entries, gen_kwargs={"files": list(files)})
    for entry in _shuffled(rows, seed, epoch, buffer):
        yield entry["place"], entry["values"]


def _datasets() -> Any:  # noqa: ANN401
    try:
        return import_module("datasets")
    except ImportError as error:
        raise ImportError('streaming needs: pip install "bloomz-haystack[hub]"') from error


def _shuffled(rows: Any, seed: int, epoch: int, buffer: int) -> Any:  # noqa: ANN401
    shuffled = rows.shuffle(seed=seed, buffer_size=buffer)
    shuffled.set_epoch(epoch)
    return shuffled
