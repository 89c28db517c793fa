"""Answers -> one row per passage found, in a .parquet or .jsonl file that is written whole or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bloomz_haystack.batch.questions import BatchQuestion
from bloomz_haystack.settings import FILE_FIELD
from haystack_integrations.common.bloomz.whole_files import replacing

if TYPE_CHECKING:
    from bloomz_haystack.answering import Answer

FORMATS = (".parquet", ".jsonl")
ROW_GROUP = 10_000  # rows of a .parquet file that are held before they are written
AnswerRow = dict[str, Any]

COLUMNS = {
    "question_id": "string",
    "question": "string",
    "rank": "int32",  # from 1
    "passage_id": "string",
    "content": "string",
    "score": "float64",
    "similarity": "float64",
    "sentence": "string",  # the one that answers: content[sentence_start:sentence_end]; null without a reader
    "sentence_start": "int32",
    "sentence_end": "int32",
    "sentence_score": "float64",
    "page": "int32",
    "file": "string",
    "meta": "string",  # JSON; in .jsonl the object itself
}


class RowWriter(Protocol):
    """Takes rows, some at a time."""

    def write(self, rows: list[AnswerRow]) -> None:
        """Add rows to the file."""


def check_answer_file(path: Path) -> None:
    """Refuse a file that could not be written, before any question is answered.

    :param path: of the file.
    :raises ValueError: if its kind is unknown, it is a folder, or its folder is missing.
    :raises ImportError: if it is .parquet and pyarrow is missing.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"--out must end in .parquet or .jsonl, but got {path}")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
        raise ValueError(f"{path} {what}: give --out a file in a folder that exists")
    if path.suffix == ".parquet":
        _arrow()


def rows_of(question: BatchQuestion, answer: "Answer") -> list[AnswerRow]:
    """Return a row for each passage of an answer, best first.

    :param question: with its id.
    :param answer: to it.
    :returns: values by column, `meta` as an object.
    """
    rows = []
    for rank, passage in enumerate(answer.passages, start=1):
        own = (question.id, question.text, rank, passage.id, passage.content, passage.score, passage.similarity)
        sentence = passage.answer or (None,) * 5
        rows.append(dict(zip(COLUMNS, (*own, *sentence, passage.meta.get(FILE_FIELD), passage.meta), strict=True)))
    return rows


@contextmanager
def answer_file(path: Path) -> Iterator[RowWriter]:
    """Open a file of answers, which takes its place when all went well.

    :param path: ending in .parquet or .jsonl.
    :yields: what takes the rows.
    """
    with replacing(path) as part, (_parquet if path.suffix == ".parquet" else _json_lines)(part) as writer:
        yield writer


@contextmanager
def _json_lines(path: Path) -> Iterator[RowWriter]:
    with path.open("w", encoding="utf-8") as file:
        yield _JsonLines(file)


class _JsonLines:
    def __init__(self, file: Any) -> None:  # noqa: ANN401
        self.file = file

    def write(self, rows: list[AnswerRow]) -> None:
        self.file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextmanager
def _parquet(path: Path) -> Iterator[RowWriter]:
    pyarrow, parquet = _arrow()
    types = {"string": pyarrow.string(), "int32": pyarrow.int32(), "float64": pyarrow.float64()}
    schema = pyarrow.schema({name: types[kind] for name, kind in COLUMNS.items()})
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:
        writer = _Parquet(file, schema)
        yield writer
        writer.flush()


class _Parquet:
    def __init__(self, file: Any, schema: Any) -> None:  # noqa: ANN401
        self.file, self.schema, self.held = file, schema, list[AnswerRow]()

    def write(self, rows: list[AnswerRow]) -> None:
        self.held += ({**row, "meta": json.dumps(row["meta"], ensure_ascii=False)} for row in rows)
        if len(self.held) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        if self.held:
            self.file.write_table(_arrow()[0].Table.from_pylist(self.held, self.schema))
        self.held = []


def _arrow() -> tuple[Any, Any]:
    from bloomz_haystack.cluster.parts import arrow_modules  # and Haystack, only when it is needed

    return arrow_modules()
