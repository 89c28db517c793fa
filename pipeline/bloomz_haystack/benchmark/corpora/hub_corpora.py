"""A data set of the Hugging Face Hub, or a local folder of one -> `SquadParagraph`s. Needs the package `datasets`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from bloomz_haystack.files.squad import SquadAnswer, SquadParagraph, SquadQuestion

SQUAD_HUB = {"en": "rajpurkar/squad_v2"}
NEEDED = ("id", "context", "question", "answers")


def read_hub(name: str, split: str = "validation") -> tuple[list[SquadParagraph], str]:
    """Return a data set whose rows are those of SQuAD on the Hub: one question a row, its paragraph repeated.

    :param name: as on the Hub, `owner/name`, or a folder that `datasets.load_dataset` reads.
    :param split: the evaluation part.
    :returns: the paragraphs in the order of their first row; SHA-256 of the rows' texts and ids.
    :raises ImportError: without the package `datasets`.
    :raises ValueError: if the data set or the split cannot be read, or a row is not SQuAD's.
    """
    try:
        load_dataset = import_module("datasets").load_dataset
    except ImportError as error:
        raise ImportError("reading a corpus from the Hub needs: pip install datasets") from error
    try:
        rows = load_dataset(name, split=split)
    # The package raises its own errors for a missing name, split or network; all mean the same to the user.
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"cannot read split {split!r} of data set {name}: {first or type(error).__name__}") from error
    return paragraphs_of(rows, name)


def paragraphs_of(rows: Iterable[Mapping[str, Any]], name: str) -> tuple[list[SquadParagraph], str]:
    """Return rows gathered by paragraph.

    :param rows: `{id, title, context, question, answers: {text: [...], answer_start: [...]}}`; no text: unanswerable.
    :param name: said in errors.
    :returns: the paragraphs; SHA-256 of what was read.
    :raises ValueError: if a row lacks one of these, or there is no row.
    """
    found: dict[tuple[str, str], list[SquadQuestion]] = {}
    digest = hashlib.sha256()
    for number, row in enumerate(rows, 1):
        if missing := [key for key in NEEDED if row.get(key) is None]:
            raise ValueError(f"{name}, row {number}: expected SQuAD's columns, but {', '.join(missing)} is missing")
        title, context = str(row.get("title") or ""), row["context"]
        texts = row["answers"]["text"]
        answers = map(SquadAnswer, texts, row["answers"].get("answer_start") or [])
        question = SquadQuestion(str(row["id"]), row["question"], tuple(answers), not texts)
        found.setdefault((title, context), []).append(question)
        facts = [question.id, title, context, question.text, bool(texts)]
        digest.update(json.dumps(facts, ensure_ascii=False).encode() + b"\n")
    if not found:
        raise ValueError(f"{name} holds no row")
    return [SquadParagraph(*where, tuple(asked)) for where, asked in found.items()], digest.hexdigest()
