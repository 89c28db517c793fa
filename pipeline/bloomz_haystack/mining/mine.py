"""Files of pairs -> the same questions with hard negatives: the ``mine`` verb, without its command line.

The retriever finds, the ranker says how probably each passage answers after all (a false negative). Questions are done
block by block; a run that was stopped, kill -9 included, goes on after the last whole block.
Source: model card of cmarkea/bloomz-560m-retriever-v2, whose training data was made so.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bloomz_haystack.files.provenance import sha256
from bloomz_haystack.mining.corpus import Corpus, Question, passages_of, questions_of
from bloomz_haystack.mining.folder import MinedFolder
from bloomz_haystack.mining.search import Candidate, Searcher
from bloomz_haystack.models.find import ModelNotAvailable, find_model
from bloomz_haystack.models.pair_scores import score_pairs
from bloomz_haystack.training.data.rows import LANGUAGES, Row, Sides
from bloomz_haystack.training.data.sources import entries, files_of, good_rows
from bloomz_haystack.training.data.stream import is_on_hub
from haystack_integrations.common.bloomz.checkpoint import close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.scorer import probabilities

BLOCK = 1024  # questions searched, scored and written together
FALSE_NEGATIVE_SCORE = 0.8  # of a passage that answers after all; source: the same card


class Watcher(Protocol):
    """Told how a run goes."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Begin a step of ``total`` units; what it gives is called with units done."""
        ...

    def note(self, text: str) -> None:
        """Say something in one line."""
        ...


@dataclass(frozen=True)
class Settings:
    """What decides the result, beside the files."""

    retriever: str
    ranker: str
    negatives: int = 30
    limit: int | None = None
    seed: int = 0
    batch_tokens: int = 2048


@dataclass
class Summary:
    """What a run did."""

    out: str
    questions: int = 0
    passages: int = 0  # distinct texts searched: a passage in two languages counts twice
    embedded: int = 0
    blocks: int = 0
    blocks_found: int = 0  # done by an earlier run
    negatives: int = 0  # written now
    false_negatives: int = 0  # of them, scored 0.8 or more
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Give what ``bloomz mine --json`` prints."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def as_text(self) -> str:
        """Give what ``bloomz mine`` prints."""
        found = f", {self.blocks_found} of {self.blocks} blocks by an earlier run" if self.blocks_found else ""
        return (
            f"{self.questions:,} questions over {self.passages:,} texts{found}: {self.negatives:,} negatives, "
            f"{self.false_negatives:,} of them scored {FALSE_NEGATIVE_SCORE:g} or more\n"
            f"{self.seconds:.1f} s; {len(self.bad)} bad rows skipped; {self.out}"
        )


def mine(data: Sequence[Path], out: Path, settings: Settings, watcher: Watcher, corpus: Sequence[Path] = ()) -> Summary:
    """Mine hard negatives.

    :param data: files and folders of rows; rows without a question are searched only.
    :param out: folder to write; of the same command, if it was stopped.
    :param settings: models, how many, seed.
    :param watcher: told how it goes.
    :param corpus: files whose passages are searched, instead of those of ``data``.
    :returns: what was done.
    :raises ValueError: if an argument, a file or a model is wrong, or the folder holds a run with other settings.
    """
    began = time.perf_counter()
    for name in ("negatives", "limit", "batch_tokens"):
        if (value := getattr(settings, name)) is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be > 0, but got {value}")
    summary = Summary(str(out))
    rows = _read(data, summary)
    searched = passages_of(_read(corpus, summary) if corpus else rows)
    questions = questions_of(rows, searched, settings.limit, settings.seed)
    if not questions:
        raise ValueError(f"no question in {', '.join(map(str, data))}: nothing to mine for")
    folder = MinedFolder(out, _identity(settings, data, corpus))
    blocks = [questions[start : start + BLOCK] for start in range(0, len(questions), BLOCK)]
    missing = {number: block for number, block in enumerate(blocks) if not folder.part(number).exists()}
    summary.questions, summary.passages = len(questions), len(searched.texts)
    summary.blocks, summary.blocks_found = len(blocks), len(blocks) - len(missing)
    if missing:
        _mine_blocks(missing, searched, folder, settings, summary, watcher)
    summary.seconds = time.perf_counter() - began
    folder.write({key: value for key, value in summary.as_json().items() if key != "out"})
    return summary


def _mine_blocks(
    blocks: Mapping[int, Sequence[Question]],
    searched: Corpus,
    folder: MinedFolder,
    settings: Settings,
    summary: Summary,
    watcher: Watcher,
) -> None:
    finder, judge = open_checkpoint(settings.retriever, "embed"), open_checkpoint(settings.ranker, "rank")
    searcher = Searcher(folder.store, Encoder(finder, batch_tokens=settings.batch_tokens), searched)
    try:
        summary.embedded = searcher.index(watcher.step("embedding passages", len(searched.texts)))
        done = watcher.step("scoring pairs", sum(map(len, blocks.values())) * settings.negatives)
        for number, questions in blocks.items():
            found = searcher.candidates(questions, settings.negatives)
            asked = zip(questions, found, strict=True)
            pairs = [(passage.text, question.text) for question, passages in asked for passage in passages]
            scores = probabilities(score_pairs(judge, pairs, settings.batch_tokens, done))
            folder.write_part(number, _rows(questions, found, scores))
            summary.negatives += len(scores)
            summary.false_negatives += int((scores >= FALSE_NEGATIVE_SCORE).sum())
    finally:
        searcher.close()
        close_checkpoint(finder)
        close_checkpoint(judge)


def _read(paths: Sequence[Path], summary: Summary) -> list[Row]:
    for path in paths:
        if is_on_hub(str(path)):
            raise ValueError(f"{path} is neither a file nor a folder: download a data set of the Hub first")
    return [row for path in paths for row in good_rows(entries(path), str(path), summary.bad)]


def _identity(settings: Settings, data: Sequence[Path], corpus: Sequence[Path]) -> dict[str, Any]:
    """Everything that the result depends on, in plain values; folders of models by their last name."""
    values = {**asdict(settings), "block": BLOCK}
    del values["batch_tokens"]  # a run that ran out of memory may go on with fewer
    for kind in ("retriever", "ranker"):
        try:
            values[f"{kind}_sha"] = find_model(values[kind]).fingerprint
        except ModelNotAvailable as error:
            raise ValueError(str(error)) from None
        values[kind] = Path(values[kind]).name if Path(values[kind]).is_dir() else values[kind]
    for kind, paths in (("data", data), ("corpus", corpus)):
        values[kind] = [f"{file.name} {sha256(file)}" for path in paths for file in files_of(path)]
    return values


def _rows(
    questions: Sequence[Question], found: Sequence[Sequence[Candidate]], scores: npt.NDArray[np.float64]
) -> Iterator[dict[str, Any]]:
    """The schema of cmarkea/mmarco-contrastive, hardest first; equal scores stay nearest first."""
    ends = np.cumsum([len(candidates) for candidates in found]).tolist()
    for question, candidates, end in zip(questions, found, ends, strict=True):
        own = scores[end - len(candidates) : end]
        negatives = [
            {**_both(candidates[place].passage), "score": round(float(own[place]), 6)}
            for place in np.argsort(-own, kind="stable").tolist()
        ]
        positive, query = _both(question.positives), _both(question.queries)
        yield {"id": question.id, "query": query, "positive": positive, "negatives": negatives}


def _both(sides: Sides) -> dict[str, str | None]:
    return {language: sides.get(language) for language in LANGUAGES}
