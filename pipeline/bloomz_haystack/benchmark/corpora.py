"""Files on disk -> ``Corpus``: questions, passages and which passage answers which question. Knows no model."""

import json
from pathlib import Path
from typing import NamedTuple


class Corpus(NamedTuple):
    """Q questions over P passages; ``gold[i]`` is the position of the passage that answers question i."""

    name: str
    questions: list[str]
    passages: list[str]
    gold: list[int]


def read_squad(path: Path) -> Corpus:
    """Read a file in SQuAD v2 format; answerable questions only, no deduplication.

    :param path: JSON.
    :returns: English questions over English passages.
    """
    passages: list[str] = []
    questions, gold = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            passages.append(paragraph["context"])
            for question in paragraph["qas"]:
                if not question.get("is_impossible", False):
                    questions.append(question["question"])
                    gold.append(len(passages) - 1)
    return Corpus(f"{path.stem} EN/EN", questions, passages, gold)


def read_piaf(path: Path) -> Corpus:
    """Read native French questions over French passages.

    :param path: JSON, ``{passages: [{id, content}], queries: [{id, text, passage}]}``.
    :returns: the corpus.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    place = {passage["id"]: i for i, passage in enumerate(values["passages"])}
    return Corpus(
        f"{path.stem} FR/FR",
        [query["text"] for query in values["queries"]],
        [passage["content"] for passage in values["passages"]],
        [place[query["passage"]] for query in values["queries"]],
    )


def read_squad_slice(path: Path, english: Corpus) -> Corpus:
    """Read French questions to be answered from the English passages of another corpus.

    :param path: JSON lines with ``question_fr`` and ``context_en``.
    :param english: the corpus whose passages are searched.
    :returns: French questions over English passages.
    """
    place = {passage.strip(): i for i, passage in enumerate(english.passages)}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    gold = [place[row["context_en"].strip()] for row in rows]
    return Corpus(f"{path.stem} FR/EN", [row["question_fr"] for row in rows], english.passages, gold)


def read_folder(folder: Path) -> list[Corpus]:
    """Read the three sets that the bundled models are measured on.

    :param folder: holds ``squad2-dev-en.json``, ``piaf-dev.json`` and ``squad-fr-slice.jsonl``.
    :returns: EN/EN, FR/FR and FR/EN.
    """
    english = read_squad(folder / "squad2-dev-en.json")
    french = read_piaf(folder / "piaf-dev.json")
    return [english, french, read_squad_slice(folder / "squad-fr-slice.jsonl", english)]
