"""Files of pairs -> the same questions with hard negatives: the `mine` verb, without its command line.

The retriever finds passages; the ranker scores them, to tell false negatives, which answer after all. Questions are
done block by block; a run that was stopped, kill -9 included, resumes after the last whole block. Blocks do not depend
on each other, so several processes may share them.
Source: model card of cmarkea/bloomz-560m-retriever-v2, whose training data was made this way.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bloomz_haystack.files.provenance import sha256
from bloomz_haystack.files.shard import ALL_BLOCKS, Shard
from bloomz_haystack.mining.corpus import MiningQuestion, PassagePool, passages_of, questions_of
from bloomz_haystack.mining.folder import MiningFolder
from bloomz_haystack.mining.search import NearPassage, PassageSearch
from bloomz_haystack.models.find import ModelNotAvailable, find_model
from bloomz_haystack.training.data.rows import SIDE_LANGUAGES, Sides, TextRow
from bloomz_haystack.training.data.sources import entries, files_of, good_rows
from bloomz_haystack.training.kinds import is_on_hub
from haystack_integrations.common.bloomz.checkpoint import close_checkpoint, open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder
from haystack_integrations.common.bloomz.pair_scores import score_pairs
from haystack_integrations.common.bloomz.scorer import probabilities

BLOCK_QUESTIONS = 1024  # searched, scored and written together
FALSE_NEGATIVE_SCORE = 0.8  # of a passage that answers after all; source: the same card


class MiningWatcher(Protocol):
    """Shows the progress of a run."""

    def step(self, name: str, total: int) -> Callable[[int], object]:
        """Start a step of `total` units; the result is called with the number of units done."""
        ...


@dataclass(frozen=True)
class MiningSettings:
    """What decides the result, beside the files."""

    retriever: str
    ranker: str
    negatives: int = 30
    limit: int | None = None
    seed: int = 0
    batch_tokens: int = 2048


@dataclass
class MiningSummary:
    """What a run did."""

    out: str
    questions: int = 0
    passages: int = 0  # distinct texts searched: a passage in two languages counts twice
    embedded: int = 0
    blocks: int = 0
    blocks_found: int = 0  # done by an earlier run
    negatives: int = 0  # written by this run
    false_negatives: int = 0  # of those, scored 0.8 or more
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return what `bloomz mine --json` prints."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def as_text(self) -> str:
        """Return what `bloomz mine` prints."""
        found = f", {self.blocks_found} of {self.blocks} blocks by an earlier run" if self.blocks_found else ""
        return (
            f"{self.questions:,} questions over {self.passages:,} texts{found}: {self.negatives:,} negatives, "
            f"{self.false_negatives:,} of them scored {FALSE_NEGATIVE_SCORE:g} or more\n"
            f"{self.seconds:.1f} s; {len(self.bad)} bad rows skipped; {self.out}"
        )


def mine_negatives(
    data: Sequence[Path],
    out: Path,
    settings: MiningSettings,
    watcher: MiningWatcher,
    corpus: Sequence[Path] = (),
    shard: Shard = ALL_BLOCKS,
) -> MiningSummary:
    """Write rows with hard negatives.

    :param data: files and folders of rows; rows without a question are only searched.
    :param out: folder to write; if the same command was stopped, it resumes there.
    :param settings: models, number of negatives, seed.
    :param watcher: shows the progress.
    :param corpus: files whose passages are searched, instead of those of `data`.
    :param shard: the blocks to do; the files of all shards are those of one run, byte for byte.
    :returns: what was done.
    :raises ValueError: if an argument, a file or a model is wrong, or the folder holds a run with other settings.
    """
    began = time.perf_counter()
    for name in ("negatives", "limit", "batch_tokens"):
        if (value := getattr(settings, name)) is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be > 0, but got {value}")
    summary = MiningSummary(str(out))
    rows = _read(data, summary)
    pool = passages_of(_read(corpus, summary) if corpus else rows)
    questions = questions_of(rows, pool, settings.limit, settings.seed)
    if not questions:
        raise ValueError(f"no question in {', '.join(map(str, data))}: nothing to mine for")
    folder = MiningFolder(out, _identity(settings, data, corpus), shard)
    starts = enumerate(range(0, len(questions), BLOCK_QUESTIONS))
    blocks = {number: questions[start : start + BLOCK_QUESTIONS] for number, start in starts if shard.takes(number)}
    missing = {number: block for number, block in blocks.items() if not folder.part(number).exists()}
    summary.questions, summary.passages = sum(map(len, blocks.values())), len(pool.texts)
    summary.blocks, summary.blocks_found = len(blocks), len(blocks) - len(missing)
    if missing:
        _mine_blocks(missing, pool, folder, settings, summary, watcher)
    summary.seconds = time.perf_counter() - began
    if shard == ALL_BLOCKS:
        folder.write({key: value for key, value in summary.as_json().items() if key != "out"})
    return summary


def _mine_blocks(
    blocks: Mapping[int, Sequence[MiningQuestion]],
    pool: PassagePool,
    folder: MiningFolder,
    settings: MiningSettings,
    summary: MiningSummary,
    watcher: MiningWatcher,
) -> None:
    retriever, ranker = open_checkpoint(settings.retriever, "embed"), open_checkpoint(settings.ranker, "rank")
    search = PassageSearch(folder.store, Encoder(retriever, batch_tokens=settings.batch_tokens), pool)
    try:
        summary.embedded = search.index(watcher.step("embedding passages", len(pool.texts)))
        done = watcher.step("scoring pairs", sum(map(len, blocks.values())) * settings.negatives)
        for number, questions in blocks.items():
            found = search.nearest(questions, settings.negatives)
            by_question = zip(questions, found, strict=True)
            pairs = [(passage.text, question.text) for question, passages in by_question for passage in passages]
            scores = probabilities(score_pairs(ranker, pairs, settings.batch_tokens, done))
            folder.write_part(number, _rows(questions, found, scores))
            summary.negatives += len(scores)
            summary.false_negatives += int((scores >= FALSE_NEGATIVE_SCORE).sum())
    finally:
        search.close()
        close_checkpoint(retriever)
        close_checkpoint(ranker)


def _read(paths: Sequence[Path], summary: MiningSummary) -> list[TextRow]:
    for path in paths:
        if is_on_hub(str(path)):
            raise ValueError(f"{path} is neither a file nor a folder: download a data set of the Hub first")
    return [row for path in paths for row in good_rows(entries(path), str(path), summary.bad)]


def _identity(settings: MiningSettings, data: Sequence[Path], corpus: Sequence[Path]) -> dict[str, Any]:
    """Everything that the result depends on, in plain values; folders of models by their last name."""
    values = {**asdict(settings), "block": BLOCK_QUESTIONS}
    del values["batch_tokens"]  # a run that ran out of memory may resume with fewer
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
    questions: Sequence[MiningQuestion], found: Sequence[Sequence[NearPassage]], scores: npt.NDArray[np.float64]
) -> Iterator[dict[str, Any]]:
    """Rows in the schema of cmarkea/mmarco-contrastive, hardest negatives first; equal scores stay nearest first."""
    ends = np.cumsum([len(passages) for passages in found]).tolist()
    for question, passages, end in zip(questions, found, ends, strict=True):
        own = scores[end - len(passages) : end]
        negatives = [
            {**_both(passages[place].passage), "score": round(float(own[place]), 6)}
            for place in np.argsort(-own, kind="stable").tolist()
        ]
        positive, query = _both(question.positives), _both(question.queries)
        yield {"id": question.id, "query": query, "positive": positive, "negatives": negatives}


def _both(sides: Sides[str]) -> dict[str, str | None]:
    return {language: sides.get(language) for language in SIDE_LANGUAGES}
