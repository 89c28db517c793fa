"""Configuration -> trained checkpoint folder: the steps of a run, in order, for retriever and ranker.

The forward pass is the engine's own packed one, so what is trained is what is served.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bloomz_haystack.files.printable import printable
from bloomz_haystack.training.config import TrainConfig, load_config
from bloomz_haystack.training.data.rows import TokenRow
from bloomz_haystack.training.data.sampling import RowSampler
from bloomz_haystack.training.data.sources import TextRows, TokenRows, read_rows
from bloomz_haystack.training.data.templates import pair_template, word_starts
from bloomz_haystack.training.data.token_rows import tokenize_rows
from bloomz_haystack.training.model import (
    hybrid_prior,
    ranker_model,
    ranker_tokenizer,
    retriever_model,
    retriever_tokenizer,
    with_negatives,
)
from bloomz_haystack.training.objectives.calibration import calibrated
from bloomz_haystack.training.objectives.listwise import ListwiseObjective
from bloomz_haystack.training.objectives.ranker import RankerObjective
from bloomz_haystack.training.objectives.retriever import RetrieverObjective
from bloomz_haystack.training.run.checkpoint import run_record, save_checkpoint
from bloomz_haystack.training.run.loop import DivergedError, Objective, fit
from bloomz_haystack.training.team import Team, join_team

logger = logging.getLogger(__name__)

HELD_OUT_ROWS = 300  # of each source, measured at each save


class PreparedRun(NamedTuple):
    """Everything that a run works on."""

    kind: str  # "retriever" or "ranker"
    objective: Objective
    saved: Callable[[], PreTrainedModel]  # the model that goes into the checkpoint
    tokenizer: PreTrainedTokenizerFast
    sources: list[TokenRows]


def train_retriever(
    config_path: Path, out: Path, resume: bool = False, *, data: str | None = None, base: str | None = None
) -> None:
    """Train a bi-encoder with InfoNCE, hard and in-batch negatives and a learned temperature.

    :param config_path: YAML file, see `TrainConfig`.
    :param out: folder to write; it holds the best checkpoint so far during the run.
    :param resume: resume a run that was stopped, to the same weights.
    :param data: replaces the sources in the file.
    :param base: replaces the base in the file.
    :raises ValueError: for a bad configuration or bad data.
    :raises DivergedError: for a loss that is not a number.
    """
    config, team = load_config(config_path, data=data, base=base), join_team()
    _run(prepare_retriever(config, team), config, team, out, resume)


def train_ranker(
    config_path: Path, out: Path, resume: bool = False, *, data: str | None = None, base: str | None = None
) -> None:
    """Train a cross-encoder: cross-entropy on pairs, each positive with hard negatives.

    :param config_path: YAML file, see `TrainConfig`.
    :param out: folder to write; it holds the best checkpoint so far during the run.
    :param resume: resume a run that was stopped, to the same weights.
    :param data: replaces the sources in the file.
    :param base: replaces the base in the file.
    :raises ValueError: for a bad configuration or bad data.
    :raises DivergedError: for a loss that is not a number.
    """
    config, team = load_config(config_path, data=data, base=base), join_team()
    _run(prepare_ranker(config, team), config, team, out, resume)


def prepare_retriever(config: TrainConfig, team: Team) -> PreparedRun:
    """Load the rows and the bi-encoder to train.

    :param config: of the run.
    :param team: gives the device.
    :returns: what the loop needs.
    :raises ValueError: for bad data or a bad base.
    """
    torch.manual_seed(config.run.seed)
    texts = [read_rows(source, config.run.seed) for source in config.data.sources]
    tokenizer = retriever_tokenizer(config, texts)
    sources = _tokenized(texts, tokenizer, config)
    model = retriever_model(config, sources, tokenizer, team)
    sampler = RowSampler(sources, word_starts(tokenizer), config.data, config.run.seed)
    objective = RetrieverObjective(model.module, model.vectors, sampler, _held_out(sources, tokenizer, config), config)
    return PreparedRun("retriever", objective, model.bloom, tokenizer, sources)


def prepare_ranker(config: TrainConfig, team: Team) -> PreparedRun:
    """Load the rows and the cross-encoder to train.

    Negatives are those of the rows; where rows have none, `model.retriever` finds some.

    :param config: of the run.
    :param team: gives the device.
    :returns: what the loop needs.
    :raises ValueError: for bad data or a bad base.
    """
    torch.manual_seed(config.run.seed)
    tokenizer = ranker_tokenizer(config)
    sources = _tokenized([read_rows(source, config.run.seed) for source in config.data.sources], tokenizer, config)
    sources = [with_negatives(rows, config, team) for rows in sources]
    model = ranker_model(config, sources, tokenizer, team)
    vars(model.config).pop("score_threshold", None)  # of the base: its scores move now
    if config.run.score_prior:
        model.config.score_prior = config.run.score_prior
    if config.run.score_share:
        model.config.score_share = True
    sampler = RowSampler(sources, word_starts(tokenizer), config.data, config.run.seed)
    held_out = [row for row in _held_out(sources, tokenizer, config) if row.negatives]
    template = pair_template(tokenizer)
    if config.loss.grid:
        rows = [row for each in sources for row in each.train]
        prior = hybrid_prior(rows, config, len(tokenizer), team) if config.loss.prior else None
        objective: Objective = ListwiseObjective(model, sampler, rows, held_out, template, config, prior)
    else:
        objective = RankerObjective(model, sampler, held_out, template, config)
    return PreparedRun("ranker", objective, lambda: model, tokenizer, sources)


def _run(prepared: PreparedRun, config: TrainConfig, team: Team, out: Path, resume: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = run_record(prepared.kind, config, prepared.sources) if team.leads else {}

    def save(step: int, found: dict[str, float]) -> None:
        if team.leads:
            done = {**record, "steps_done": step, "validation": found}
            with calibrated(prepared.objective.model, found):
                save_checkpoint(prepared.saved(), prepared.tokenizer, done, out)

    fit(prepared.objective, config, out, team, save, resume=resume)


def _tokenized(texts: Sequence[TextRows], tokenizer: PreTrainedTokenizerFast, config: TrainConfig) -> list[TokenRows]:
    sources = [tokenize_rows(rows, tokenizer.backend_tokenizer, config.data) for rows in texts]
    for rows in sources:
        counts = len(rows.train), len(rows.validation), len(rows.bad)
        what = "first rows of a stream" if rows.stream else "rows to train on"
        logger.info(f"%s: %d {what}, %d held out, %d bad", Path(rows.source.path).name, *counts)
    return sources


def _held_out(sources: Sequence[TokenRows], tokenizer: PreTrainedTokenizerFast, config: TrainConfig) -> list[TokenRow]:
    """Return rows to measure on: with a question, one per passage."""
    parts = [rows.validation for rows in sources]
    if config.data.validation:
        given = _tokenized([read_rows(source) for source in config.data.validation], tokenizer, config)
        parts = [[*rows.train, *rows.validation] for rows in given]
    chosen: dict[int, TokenRow] = {}
    for part in parts:
        fresh = {row.group: row for row in part if row.queries and not row.parallel}
        chosen |= dict(list(fresh.items())[:HELD_OUT_ROWS])
    return list(chosen.values())


def main() -> None:
    """Run `python -m bloomz_haystack.training.train retriever|ranker --config FILE --out DIR`, without typer."""
    parser = argparse.ArgumentParser(description="Train a Bloom retriever or ranker.")
    parser.add_argument("kind", choices=["retriever", "ranker"])
    parser.add_argument("--config", type=Path, required=True, help="YAML file, or training.json of a run")
    parser.add_argument("--data", help="file or folder of rows; replaces data.sources")
    parser.add_argument("--base", help="checkpoint to start from; replaces model.base")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--resume", action="store_true", help="resume a run that was stopped")
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
