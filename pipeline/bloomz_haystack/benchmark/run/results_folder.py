"""A folder of results: what was measured, on what, question by question, so that any table comes back without a model.

    run.json            corpus, counts, SHA-256, rule, protocol, machine, versions, commit
    questions.jsonl     id, text, gold passage, theme
    passages.jsonl      id, theme, first characters
    rows/NAME.json      one system: label, state, seconds; written last, so a row that is there is whole
    rows/NAME.jsonl     its ranks, a line a question

Knows no model and no figure.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bloomz_haystack.benchmark.corpora.corpora import Corpus
from haystack_integrations.common.bloomz.whole_files import write_whole

SHOWN_CHARACTERS = 1_000  # of a passage: all of most paragraphs, so that its answer can be seen
RUN, QUESTIONS, PASSAGES, ROWS = "run.json", "questions.jsonl", "passages.jsonl", "rows"


@dataclass(frozen=True)
class RunFacts:
    """What a folder of results was measured on. A run goes on over equal facts; `measured` may differ."""

    corpus: str  # the set's name with its languages
    kind: str  # squad, piaf, squad-fr-slice
    query_lang: str
    passage_lang: str
    protocol: str  # retriever: every question; reranker: the first of each passage
    rule: str
    questions: int
    unanswerable: int
    passages: int
    themes: int
    files: dict[str, str]  # file -> SHA-256
    measured: dict[str, str] = field(default_factory=dict, compare=False)  # date, commit, machine, versions, command


@dataclass(frozen=True)
class Row:
    """What one system did; arrays are (Q,) in the order of the run's questions, empty where it is not available."""

    name: str
    label: str
    state: str  # "measured", or why it is not
    seconds: float
    settings: dict[str, Any]
    fair: npt.NDArray[np.float64]
    optimistic: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]  # passage ranked first
    first_score: npt.NDArray[np.float64]  # the ranker's probability, else the system's own score
    gold_probability: npt.NDArray[np.float64]  # NaN where no ranker saw it
    unanswerable_score: npt.NDArray[np.float64]  # (U,) score of the first passage; empty if not asked for

    @property
    def measured(self) -> bool:
        """Whether there are ranks."""
        return self.state == "measured"


@dataclass(frozen=True)
class KeptRun:
    """A folder read back: facts, rows in the order they were measured, texts for a person to look at."""

    facts: RunFacts
    rows: list[Row]
    questions: list[dict[str, Any]]
    passages: list[dict[str, Any]]


def begin(folder: Path, facts: RunFacts, corpus: Corpus) -> None:
    """Make the folder of a run, or check that it belongs to this one.

    :param folder: of results.
    :param facts: of the run.
    :param corpus: its texts are kept for the list of errors.
    :raises ValueError: if the folder holds a run over something else.
    """
    if (folder / RUN).exists():
        kept = read_facts(folder)
        if kept != facts:
            new, old = asdict(facts), asdict(kept)
            differing = [key for key in new if key != "measured" and new[key] != old[key]]
            raise ValueError(
                f"{folder} holds a run that differs in {', '.join(differing)} ({kept.corpus}, protocol "
                f"{kept.protocol}): give another --out"
            )
        return
    (folder / ROWS).mkdir(parents=True, exist_ok=True)
    themes = [passage.theme for passage in corpus.passages]
    asked = ({"id": q.id, "text": q.text, "gold": q.gold, "theme": themes[q.gold]} for q in corpus.questions)
    _write_lines(folder / QUESTIONS, asked)
    shown = ({"id": p.id, "theme": p.theme, "text": _shown(p.text)} for p in corpus.passages)
    _write_lines(folder / PASSAGES, shown)
    write_whole(folder / RUN, json.dumps(asdict(facts), ensure_ascii=False, indent=1))


def keep(folder: Path, row: Row) -> None:
    """Write one system's ranks, whole or not at all.

    :param folder: of results, begun.
    :param row: of the system.
    """
    place = folder / ROWS / _file_name(row.name)
    if row.measured:
        _write_lines(place.with_name(place.name + ".jsonl"), _lines(row))
    about = {"name": row.name, "label": row.label, "state": row.state, "seconds": row.seconds, "settings": row.settings}
    about["finished"] = datetime.now(UTC).isoformat()
    about["unanswerable_score"] = [round(float(score), 6) for score in row.unanswerable_score]
    write_whole(place.with_name(place.name + ".json"), json.dumps(about, ensure_ascii=False, indent=1))


def read_row(folder: Path, name: str) -> Row | None:
    """Read one system's ranks.

    :param folder: of results.
    :param name: the row's.
    :returns: the row; None if it is not there or torn.
    """
    return _read_row(folder / ROWS / f"{_file_name(name)}.json")


def read_run(folder: Path) -> KeptRun:
    """Read a folder of results.

    :param folder: written by `begin` and `keep`.
    :returns: the run; rows in the order in which they were finished.
    :raises ValueError: if it is not such a folder.
    """
    facts = read_facts(folder)
    files = sorted((folder / ROWS).glob("*.json"), key=_finished)
    rows = [row for path in files if (row := _read_row(path)) is not None]
    return KeptRun(facts, rows, _read_lines(folder / QUESTIONS), _read_lines(folder / PASSAGES))


def read_facts(folder: Path) -> RunFacts:
    """Read what a folder was measured on.

    :param folder: of results.
    :returns: the facts.
    :raises ValueError: if it holds no run, or one that cannot be read.
    """
    try:
        return RunFacts(**json.loads((folder / RUN).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no results: bloomz benchmark quality --out {folder} makes them") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / RUN} cannot be read ({error}): give another --out") from None


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _lines(row: Row) -> Iterable[dict[str, Any]]:
    for fair, optimistic, first, score, probability in zip(
        row.fair, row.optimistic, row.first, row.first_score, row.gold_probability, strict=True
    ):
        line = {"rank": float(fair), "optimistic": int(optimistic), "first": int(first), "score": float(score)}
        yield line if np.isnan(probability) else line | {"gold_probability": float(probability)}


def _finished(path: Path) -> str:
    """When a row was kept; the time of its file is that of the copy, in a clone as well."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()  # torn, or of an earlier version


def _read_row(path: Path) -> Row | None:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        lines = _read_lines(path.with_suffix(".jsonl")) if about["state"] == "measured" else []
        return Row(
            about["name"],
            about["label"],
            about["state"],
            about["seconds"],
            about["settings"],
            np.array([line["rank"] for line in lines], np.float64),
            np.array([line["optimistic"] for line in lines], np.int64),
            np.array([line["first"] for line in lines], np.int64),
            np.array([line["score"] for line in lines], np.float64),
            np.array([line.get("gold_probability", np.nan) for line in lines], np.float64),
            np.array(about["unanswerable_score"], np.float64),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file_name(name: str) -> str:
    """A name that every file system takes, and that two rows never share."""
    plain = re.sub(r"[^\w.+-]+", "_", name)[-80:]
    return plain if plain == name else f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except ValueError as error:
        raise ValueError(f"{path} is torn ({error}): measure again into another --out") from None


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines))
