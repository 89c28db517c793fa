"""A file -> the objects it holds, one by one, each with its place: JSON lines (plain or gzip) and parquet.

A line that is not JSON is a bad row; a file that is torn or in another encoding stops the run with one line.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from bloomz_haystack.training.data.rows import BadRowError

FileEntry = tuple[str, object]  # "FILE:LINE", and the values or a BadRowError

PARQUET_ROWS = 1024  # read together: bounds the memory


def line_entries(path: Path) -> Iterator[FileEntry]:
    """Yield the objects of a JSON lines file.

    :param path: `.jsonl` or `.jsonl.gz`, in UTF-8; empty lines are skipped.
    :yields: place and values.
    :raises ValueError: if the gzip is torn or the text is not UTF-8.
    """
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{number} is not UTF-8 text ({error.reason}): convert the file") from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is torn after line {number} ({error}): copy or make it again") from None


def parquet_entries(path: Path) -> Iterator[FileEntry]:
    """Yield the rows of a parquet file, reading a block at a time.

    :param path: with the columns of cmarkea/mmarco-contrastive.
    :yields: place, with the row's number from 1, and values.
    :raises ValueError: if the file is torn.
    :raises ImportError: without pyarrow.
    """
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError('reading parquet needs: pip install "bloomz-haystack[hub]"') from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", values
    except (import_module("pyarrow").ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is torn or no parquet file, after row {number} ({reason})") from None


def _parse(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        half = "" if line.endswith("\n") else "half-written last line, "
        return BadRowError(f"{half}not JSON ({error})")
