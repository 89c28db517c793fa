"""A unit of work -> its passages, in blocks: what is embedded together and lies in one file.

The same unit gives the same blocks in every run, however many processes share the work. So each vector is computed
beside the same others, and comes out the same to the last bit.
"""

from collections.abc import Iterator
from typing import NamedTuple

from haystack import Document

from bloomz_haystack.cluster.passage_rows import passages_of_rows
from bloomz_haystack.cluster.work import WorkUnit
from bloomz_haystack.indexing.cut_files import cut_file
from bloomz_haystack.indexing.files import FoundFile, Note, Problem
from bloomz_haystack.indexing.indexed_files import indexed_file
from bloomz_haystack.indexing.passages import Splitter


class Block(NamedTuple):
    """Neighbouring passages of a unit."""

    unit: int
    number: int  # in its unit, from 0
    passages: list[Document]
    remarks: list[Problem | Note]  # on what was read for it
    last: bool  # of its unit; it alone may be empty


def unit_blocks(unit: WorkUnit, splitter: Splitter, most: int) -> Iterator[Block]:
    """Read a unit.

    :param unit: of `find_work`.
    :param splitter: cuts its files; rows are not cut.
    :param most: passages in a block.
    :yields: at least one block.
    """
    number = 0
    passages: list[Document] = []
    remarks: list[Problem | Note] = []
    for outcome in passages_of_rows(unit.rows) if unit.rows else _file_passages(unit.files, splitter):
        if not isinstance(outcome, Document):
            remarks.append(outcome)
            continue
        if len(passages) == most:  # and one more is there: the last block is not empty
            yield Block(unit.number, number, passages, remarks, last=False)
            number, passages, remarks = number + 1, [], []
        passages.append(outcome)
    yield Block(unit.number, number, passages, remarks, last=True)


def _file_passages(files: tuple[FoundFile, ...], splitter: Splitter) -> Iterator[Document | Problem | Note]:
    for file in files:
        for cut in cut_file(file.path, indexed_file(file), splitter):
            yield from cut.outcome if isinstance(cut.outcome, list) else [cut.outcome]
