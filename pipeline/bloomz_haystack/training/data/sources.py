"""A source (file, folder or data set on the Hub) -> its rows: to train on, held out, and bad ones named by place.

What is on disk is read into memory, unless the source says `stream`; what is on the Hub is streamed. A passage is
held out by its hash, so that it stays held out in every run, order and mixture.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Generic, TypeAlias

from bloomz_haystack.training.config import Source
from bloomz_haystack.training.data.files import FileEntry, line_entries, parquet_entries
from bloomz_haystack.training.data.rows import BadRowError, Content, TextRow, TrainingRow, parse_row
from bloomz_haystack.training.data.squad import squad_entries, squad_language
from bloomz_haystack.training.data.stream import file_stream, hub_entries
from bloomz_haystack.training.kinds import PARQUET_SUFFIX, READABLE, SUFFIXES, is_on_hub, is_squad
from haystack_integrations.common.bloomz.tokens import TokenIds

logger = logging.getLogger(__name__)

VALIDATION_EVERY = 50  # one passage in 50 is held out
SAMPLE = 5_000  # rows of a stream read first: those held out, and texts to learn a vocabulary from
CHECKED_AFTER = 1_000  # rows of a stream before its share of bad ones can stop the run
LOGGED_BAD_ROWS = 5

Epoch = Callable[[int], Iterator[FileEntry]]


@dataclass
class SourceRows(Generic[Content]):
    """The rows of one source. Of a stream, `train` is only a sample; `stream` gives all, without end."""

    source: Source
    train: list[TrainingRow[Content]] = field(default_factory=list)
    validation: list[TrainingRow[Content]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # "FILE:LINE: what is wrong"
    stream: Callable[[int], Iterator[TrainingRow[Content]]] | None = None  # the rows after the first N


TextRows: TypeAlias = SourceRows[str]
TokenRows: TypeAlias = SourceRows[TokenIds]


def read_rows(source: Source, seed: int = 0) -> TextRows:
    """Load a source; a bad row is counted, named and skipped.

    :param source: path or Hub name, and weight.
    :param seed: of the order of a stream.
    :returns: rows with texts, split by passage into train and validation.
    :raises ValueError: if there is no such source, a file is torn, or more than 1 % of the rows are bad.
    """
    rows = TextRows(source)
    if source.stream or is_on_hub(source.path):
        whole = _epoch_of(source.path, seed)

        def epoch(number: int) -> Iterator[FileEntry]:
            return _without(source.leave_out, whole(number))

        rows.stream = partial(_endless, epoch, source.path)
        first: Iterable[TextRow] = islice(good_rows(epoch(0), source.path, rows.bad), SAMPLE)
    else:
        first = good_rows(_without(source.leave_out, entries(Path(source.path))), source.path, rows.bad)
    for row in first:
        (rows.validation if _held_out(row) else rows.train).append(row)
    for bad in rows.bad[:LOGGED_BAD_ROWS]:
        logger.warning("skipped %s", bad)
    if not rows.train:
        raise ValueError(f"{source.path}: no row to train on")
    return rows


def good_rows(entries: Iterable[FileEntry], name: str, bad: list[str], *, whole: bool = True) -> Iterator[TextRow]:
    """Yield rows made of file entries; bad ones, up to 1 %, are skipped.

    :param entries: place and values.
    :param name: source, for the error message.
    :param bad: messages about bad rows are appended here.
    :param whole: check the share of bad rows at the end only; False also checks on the way, for an endless stream.
    :yields: rows with texts.
    :raises ValueError: if more than 1 % are bad.
    """
    total, before = 0, len(bad)

    def check_share() -> None:
        found = len(bad) - before
        if found > total // 100:
            raise ValueError(f"{name}: {found} bad rows of {total}, at most 1 % may be ({bad[before]})")

    for total, (place, values) in enumerate(entries, start=1):
        try:
            row = _parsed(values)
        except BadRowError as error:
            bad.append(f"{place}: {error}")
            if not whole and total >= CHECKED_AFTER:
                check_share()
            continue
        yield row
    check_share()


def _without(left_out: Sequence[str], entries: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """Yield all but the rows of some origins, e.g. those under an unsuitable licence."""
    for place, values in entries:
        origin = str(values.get("source") or values.get("id")) if isinstance(values, dict) else ""
        if not origin.startswith(tuple(left_out)):
            yield place, values


def entries(path: Path) -> Iterator[FileEntry]:
    """Yield every entry of a file or folder.

    :param path: a file, or a folder of files.
    :returns: place and values, file by file in name order.
    :raises ValueError: if there is nothing to read.
    """
    files = files_of(path)
    squad: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in files:
        if is_squad(file):
            name, language = squad_language(file)
            squad[name][language] = file
    lines = (_file_entries(file) for file in files if not is_squad(file))
    return chain.from_iterable([*lines, *map(squad_entries, squad.values())])


def files_of(path: Path) -> list[Path]:
    """Return the files of a source.

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
        raise ValueError(f"{path}: nothing to read: expected {READABLE}")
    return known


def texts_of(sources: Sequence[TextRows], budget: int) -> Iterator[str]:
    """Yield texts from each source in turn, so that no single source dominates a vocabulary.

    :param sources: rows with texts.
    :param budget: characters taken from each source.
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
    files = [file for file in files_of(Path(path)) if not is_squad(file)]
    if not files:
        raise ValueError(f"{path}: SQuAD files cannot be streamed: leave 'stream' out")
    return partial(file_stream, files, _file_entries, seed)


def _endless(epoch: Epoch, name: str, skip: int) -> Iterator[TextRow]:
    def rows() -> Iterator[TextRow]:
        for number in count():
            yield from (row for row in good_rows(epoch(number), name, [], whole=False) if not _held_out(row))

    return islice(rows(), skip, None)


def _file_entries(file: Path) -> Iterator[FileEntry]:
    return parquet_entries(file) if file.suffix == PARQUET_SUFFIX else line_entries(file)


def _parsed(values: object) -> TextRow:
    if isinstance(values, BadRowError):
        raise values
    return parse_row(values)


def _held_out(row: TextRow) -> bool:
    return row.group % VALIDATION_EVERY == 0 and bool(row.queries)
