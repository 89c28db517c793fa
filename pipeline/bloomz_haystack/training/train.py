"""Configuration -> trained checkpoint folder: the steps of a run, in order, for retriever and ranker.

The forward pass is the engine's own packed one, so what is trained is what is served.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from bloomz_haystack.printable import printable
from bloomz_haystack.training.config import TrainConfig, load_config
from bloomz_haystack.training.data.rows import Row
from bloomz_haystack.training.data.sampling import RowSampler
from bloomz_haystack.training.data.sources import Rows, read_rows
from bloomz_haystack.training.data.tokenized import tokenize_rows
from bloomz_haystack.training.objectives.grad_cache import compute_in_chunks
from bloomz_haystack.training.objectives.listwise import ListwiseObjective
from bloomz_haystack.training.objectives.ranker import RankerObjective
from bloomz_haystack.training.objectives.retriever import RetrieverObjective, embed
from bloomz_haystack.training.run.calibration import calibrated
from bloomz_haystack.training.run.checkpoint import run_record, save_checkpoint
from bloomz_haystack.training.run.distributed import Team, join_team
from bloomz_haystack.training.run.loop import DivergedError, Objective, fit
from bloomz_haystack.training.start import (
    load_body,
    load_tokenizer,
    ranker_tokenizer,
    retriever_tokenizer,
    start_ranker,
    start_retriever,
)
from bloomz_haystack.training.tiny.bag import TokenBag
from bloomz_haystack.training.tiny.negatives import Encode, mine
from bloomz_haystack.training.tiny.tokenizer import pair_template, text_template, word_starts

logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """Everything that a run works on."""

    kind: str  # "retriever" or "ranker"
    objective: Objective
    tokenizer: PreTrainedTokenizerFast
    sources: list[Rows]


def train_retriever(
    config_path: Path, out: Path, resume: bool = False, *, data: str | None = None, base: str | None = None
) -> None:
    """Train a bi-encoder with InfoNCE, hard and in-batch negatives and a learnt temperature.

    :param config_path: YAML file, see ``TrainConfig``.
    :param out: folder to write; the best checkpoint so far stands there while it runs.
    :param resume: go on from the last state of a run that was stopped, to the same weights.
    :param data: takes the place of the sources in the file.
    :param base: takes the place of the base in the file.
    :raises ValueError: for a bad configuration or bad data.
    :raises DivergedError: for a loss that is not a number.
    """
    config, team = load_config(config_path, data=data, base=base), join_team()
    _run(prepare_retriever(config, team), config, team, out, resume)


def train_ranker(
    config_path: Path, out: Path, resume: bool = False, *, data: str | None = None, base: str | None = None
) -> None:
    """Train a cross-encoder: cross-entropy on pairs, each positive with hard negatives.

    :param config_path: YAML file, see ``TrainConfig``.
    :param out: folder to write; the best checkpoint so far stands there while it runs.
    :param resume: go on from the last state of a run that was stopped, to the same weights.
    :param data: takes the place of the sources in the file.
    :param base: takes the place of the base in the file.
    :raises ValueError: for a bad configuration or bad data.
    :raises DivergedError: for a loss that is not a number.
    """
    config, team = load_config(config_path, data=data, base=base), join_team()
    _run(prepare_ranker(config, team), config, team, out, resume)


def prepare_retriever(config: TrainConfig, team: Team) -> Prepared:
    """Read the rows and start the bi-encoder.

    :param config: of the run.
    :param team: gives the device.
    :returns: what the loop needs.
    :raises ValueError: for bad data or a bad base.
    """
    torch.manual_seed(config.run.seed)
    texts = [read_rows(source, config.run.seed) for source in config.data.sources]
    tokenizer = retriever_tokenizer(config, texts)
    sources = _tokenized(texts, tokenizer, config)
    model = start_retriever(config, sources, len(tokenizer)).to(team.device)
    sampler = RowSampler(sources, word_starts(tokenizer), config.data, config.run.seed)
    held_out = _held_out(sources, tokenizer, config)
    objective = RetrieverObjective(model, sampler, held_out, text_template(tokenizer), config)
    return Prepared("retriever", objective, tokenizer, sources)


def prepare_ranker(config: TrainConfig, team: Team) -> Prepared:
    """Read the rows and start the cross-encoder.

    Negatives are those of the rows; where rows have none, ``model.retriever`` finds some.

    :param config: of the run.
    :param team: gives the device.
    :returns: what the loop needs.
    :raises ValueError: for bad data or a bad base.
    """
    torch.manual_seed(config.run.seed)
    tokenizer = ranker_tokenizer(config)
    sources = _tokenized([read_rows(source, config.run.seed) for source in config.data.sources], tokenizer, config)
    sources = [_with_negatives(rows, config, team) for rows in sources]
    model = start_ranker(config, sources, tokenizer).to(team.device)
    if config.run.score_prior:
        model.config.score_prior = config.run.score_prior
    sampler = RowSampler(sources, word_starts(tokenizer), config.data, config.run.seed)
    held_out = [row for row in _held_out(sources, tokenizer, config) if sampler.hardest(row)]
    template = pair_template(tokenizer)
    if config.loss.grid:
        rows = [row for each in sources for row in each.train]
        objective: Objective = ListwiseObjective(model, sampler, rows, held_out, template, config)
    else:
        objective = RankerObjective(model, sampler, held_out, template, config)
    return Prepared("ranker", objective, tokenizer, sources)


def _run(prepared: Prepared, config: TrainConfig, team: Team, out: Path, resume: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = run_record(prepared.kind, config, prepared.sources) if team.leads else {}

    def save(step: int, found: dict[str, float]) -> None:
        if team.leads:
            told, model = {**record, "steps_done": step, "validation": found}, prepared.objective.model
            with calibrated(model, found):
                save_checkpoint(model, prepared.tokenizer, told, out)

    fit(prepared.objective, config, out, team, save, resume=resume)


def _tokenized(texts: Sequence[Rows], tokenizer: PreTrainedTokenizerFast, config: TrainConfig) -> list[Rows]:
    sources = [tokenize_rows(rows, tokenizer.backend_tokenizer, config.data) for rows in texts]
    for rows in sources:
        counts = len(rows.train), len(rows.validation), len(rows.bad)
        what = "first rows of a stream" if rows.stream else "rows to train on"
        logger.info(f"%s: %d {what}, %d held out, %d bad", Path(rows.source.path).name, *counts)
    return sources


def _held_out(sources: Sequence[Rows], tokenizer: PreTrainedTokenizerFast, config: TrainConfig) -> list[Row]:
    """Take rows to measure on: with a question, one a passage."""
    parts = [rows.validation for rows in sources]
    if config.data.validation:
        given = _tokenized([read_rows(source) for source in config.data.validation], tokenizer, config)
        parts = [[*rows.train, *rows.validation] for rows in given]
    chosen: dict[int, Row] = {}
    for part in parts:
        fresh = {row.group: row for row in part if row.queries and not row.parallel}
        chosen |= dict(list(fresh.items())[: config.data.validation_rows])
    return list(chosen.values())


def _with_negatives(rows: Rows, config: TrainConfig, team: Team) -> Rows:
    if not any(row.negatives for row in rows.train):
        if rows.stream or not config.model.retriever:
            raise ValueError(
                f"{rows.source.path}: no row has negatives: mine them (bloomz mine), or let 'model.retriever' name the "
                "model that finds them"
            )
        vectors = negative_finder(config.model.retriever, config.run.chunk_tokens, team)
        train, validation = (
            mine(part, vectors, config.run.seed, config.data.mined_rows) for part in (rows.train, rows.validation)
        )
        rows = replace(rows, train=train, validation=validation)
    return replace(rows, train=[row for row in rows.train if row.negatives])


def negative_finder(retriever: str, chunk_tokens: int, team: Team) -> Encode:
    """Open the retriever that finds negatives.

    :param retriever: bundled name, folder or Hub name.
    :param chunk_tokens: computed together.
    :param team: the processes, and their device.
    :returns: token ids -> (B, K) vectors; of the sum that it was written from, if it is one: seconds, not minutes.
    :raises ValueError: if it cannot be loaded.
    """
    model = load_body(retriever)
    try:
        return torch.no_grad()(TokenBag.of(model).to(team.device))
    except ValueError:
        compute = partial(embed, model.to(team.device), template=text_template(load_tokenizer(retriever)))
        return partial(compute_in_chunks, compute, width=model.config.hidden_size, chunk_tokens=chunk_tokens, team=team)


def main() -> None:
    """Run ``python -m bloomz_haystack.training.train retriever|ranker --config FILE --out DIR``, without typer."""
    parser = argparse.ArgumentParser(description="Train a Bloom retriever or ranker.")
    parser.add_argument("kind", choices=["retriever", "ranker"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", help="file or folder of rows; takes the place of data.sources")
    parser.add_argument("--base", help="checkpoint to start from; takes the place of model.base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on from the last state of a run that was stopped")
    given = parser.parse_args()
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO"), format="%(asctime)s %(message)s")
    logging.getLogger("transformers").setLevel(logging.ERROR)  # a new head is no reason for a table
    train = train_retriever if given.kind == "retriever" else train_ranker
    try:
        train(given.config, given.out, given.resume, data=given.data, base=given.base)
    except (ValueError, OSError, ImportError, DivergedError) as error:
        print(printable(" ".join(str(error).split())), file=sys.stderr)  # noqa: T201
        sys.exit(1 if isinstance(error, DivergedError) else 2)


if __name__ == "__main__":
    main()
