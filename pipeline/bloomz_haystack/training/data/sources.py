"""A source (file, folder or data set on the Hub) -> ``Rows``: to train on, held out, and bad ones named by place.

What is on disk is read into memory, unless the source says ``stream``; what is on the Hub is streamed. A passage is
held out by its hash, so that it stays held out in every run, order and mixture.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, islice
from pathlib import Path

from bloomz_haystack.training.config import Source
from bloomz_haystack.training.data.files import (
    PARQUET_SUFFIX,
    SQUAD_SUFFIXES,
    SUFFIXES,
    Entry,
    line_entries,
    parquet_entries,
)
from bloomz_haystack.training.data.rows import BadRowError, Row, parse_row
from bloomz_haystack.training.data.squad import squad_entries, squad_language
from bloomz_haystack.training.data.stream import file_stream, hub_entries, is_on_hub

logger = logging.getLogger(__name__)

VALIDATION_EVERY = 50  # one passage in 50 is held out
SAMPLE = 5_000  # rows of a stream read first: those held out, and texts to learn a vocabulary from
JUDGED_AFTER = 1_000  # rows of a stream before its share of bad ones can stop the run
NAMED = 5  # bad rows named in the log
KINDS = "*.jsonl, *.jsonl.gz, *.parquet, or *.json (.gz) in SQuAD format"

Epoch = Callable[[int], Iterator[Entry]]


@dataclass
class Rows:
    """The rows of one source. Of a stream, ``train`` is a sample only, and ``stream`` gives all, without end."""

    source: Source
    train: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # "FILE:LINE: what is wrong"
    stream: Callable[[int], Iterator[Row]] | None = None  # those after so many


def read_rows(source: Source, seed: int = 0) -> Rows:
    """Read a source; a bad row is counted, named and skipped.

    :param source: path or Hub name, and weight.
    :param seed: of the order of a stream.
    :returns: rows with texts, split by passage into train and validation.
    :raises ValueError: if there is no such source, a file is torn, or more than 1 % of the rows are bad.
    """
    rows = Rows(source)
    if source.stream or is_on_hub(source.path):
        whole = _epoch_of(source.path, seed)

        def epoch(number: int) -> Iterator[Entry]:
            return _without(source.leave_out, whole(number))

        rows.stream = partial(_endless, epoch, source.path)
        first: Iterable[Row] = islice(good_rows(epoch(0), source.path, rows.bad), SAMPLE)
    else:
        first = good_rows(_without(source.leave_out, entries(Path(source.path))), source.path, rows.bad)
    for row in first:
        (rows.validation if _held_out(row) else rows.train).append(row)
    for bad in rows.bad[:NAMED]:
        logger.warning("skipped %s", bad)
    if not rows.train:
        raise ValueError(f"{source.path}: no row to train on")
    return rows


def good_rows(entries: Iterable[Entry], name: str, bad: list[str], *, whole: bool = True) -> Iterator[Row]:
    """Make rows of what readers give; leave out bad ones, up to 1 %.

    :param entries: place and values.
    :param name: of the source, for the error.
    :param bad: what is wrong with bad rows is added here.
    :param whole: judge the share of bad rows at the end; False also does so on the way, for what has no end.
    :yields: rows with texts.
    :raises ValueError: if more than 1 % are bad.
    """
    total, before = 0, len(bad)

    def judge() -> None:
        found = len(bad) - before
        if found > total // 100:
            raise ValueError(f"{name}: {found} bad rows of {total}, at most 1 % may be ({bad[before]})")

    for total, (place, values) in enumerate(entries, start=1):
        try:
            row = _parsed(values)
        except BadRowError as error:
            bad.append(f"{place}: {error}")
            if not whole and total >= JUDGED_AFTER:
                judge()
            continue
        yield row
    judge()


def _without(left_out: Sequence[str], entries: Iterable[Entry]) -> Iterator[Entry]:
    """Leave out the rows of some origins, e.g. those whose licence does not suit."""
    for place, values in entries:
        origin = str(values.get("source") or values.get("id")) if isinstance(values, dict) else ""
        if not origin.startswith(tuple(left_out)):
            yield place, values


def entries(path: Path) -> Iterator[Entry]:
    """Read all that a path names.

    :param path: a file, or a folder of files.
    :returns: place and values, file by file in the order of their names.
    :raises ValueError: if there is nothing to read.
    """
    files = files_of(path)
    squad: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in files:
        if file.name.endswith(SQUAD_SUFFIXES):
            name, language = squad_language(file)
            squad[name][language] = file
    lines = (_file_entries(file) for file in files if not file.name.endswith(SQUAD_SUFFIXES))
    return chain.from_iterable([*lines, *map(squad_entries, squad.values())])


def files_of(path: Path) -> list[Path]:
    """Name the files that a source is made of.

    :param path: a file, or a folder, whose files of known kinds count; folders inside it do not.
    :returns: the files, by name; none for a data set on the Hub.
    :raises ValueError: if there is no such path, or nothing of a known kind.
    """
    if is_on_hub(str(path)):
        return []
    if not path.exists():
        raise ValueError(f"no such data: {path} is neither a file nor a folder, nor owner/name of a data set")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    known = [file for file in files if file.name.endswith(SUFFIXES)]
    if not known:
        raise ValueError(f"{path}: nothing to read: expected {KINDS}")
    return known


def texts_of(sources: Sequence[Rows], budget: int) -> Iterator[str]:
    """Give texts of every source in turn, to learn a vocabulary that no single source rules.

    :param sources: rows with texts.
    :param budget: characters taken of each source.
    :yields: texts.
    """
    for rows in sources:
        left = budget
        for row in rows.train[:: max(1, len(rows.train) // 20_000)] if left > 0 else []:
            for text in (*row.queries.values(), *row.positives.values()):
                left -= len(text)
                yield text
            if left < 0:
                break


def _epoch_of(path: str, seed: int) -> Epoch:
    if is_on_hub(path):
        return partial(hub_entries, path, seed)
    files = [file for file in files_of(Path(path)) if not file.name.endswith(SQUAD_SUFFIXES)]
    if not files:
        raise ValueError(f"{path}: SQuAD files cannot be streamed: leave 'stream' out")
    return partial(file_stream, files, _file_entries, seed)


def _endless(epoch: Epoch, name: str, skip: int) -> Iterator[Row]:
    def rows() -> Iterator[Row]:
        for number in count():
            yield from (row for row in good_rows(epoch(number), name, [], whole=False) if not _held_out(row))

    return islice(rows(), skip, None)


def _file_entries(file: Path) -> Iterator[Entry]:
    return parquet_entries(file) if file.suffix == PARQUET_SUFFIX else line_entries(file)


def _parsed(values: object) -> Row:
    if isinstance(values, BadRowError):
        raise values
    return parse_row(values)


def _held_out(row: Row) -> bool:
    return row.group % VALIDATION_EVERY == 0 and bool(row.queries)
