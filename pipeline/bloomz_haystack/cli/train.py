"""`bloomz train`: reads arguments, calls `train_retriever` or `train_ranker`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from bloomz_haystack.cli.errors import SETTINGS, one_line_errors, say
from bloomz_haystack.cli.signals import clean_up_when_stopped

train_verbs = typer.Typer(help="Train a retriever or a ranker from a configuration file.", **SETTINGS)

ConfigOption = Annotated[Path, typer.Option("--config", help="YAML configuration file.", show_default=False)]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the trained model.", show_default=False)]
DataOption = Annotated[
    str | None,
    typer.Option("--data", help="File or folder of rows; replaces data.sources.", show_default=False),
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base", help="Checkpoint to start from (Hub name or folder); replaces model.base.", show_default=False
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Resume from the last saved state.")]


@train_verbs.command("retriever")
def retriever_verb(
    config: ConfigOption,
    out: OutOption,
    data: DataOption = None,
    base: BaseOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train a retriever (bi-encoder)."""
    _train("retriever", config, out, resume, data, base)


@train_verbs.command("ranker")
def ranker_verb(
    config: ConfigOption,
    out: OutOption,
    data: DataOption = None,
    base: BaseOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train a ranker (cross-encoder)."""
    _train("ranker", config, out, resume, data, base)


def _train(kind: str, config: Path, out: Path, resume: bool, data: str | None, base: str | None) -> None:
    with one_line_errors(stopped="the last state is kept; run the same command with --resume to resume"):
        logging.getLogger("bloomz_haystack.training").setLevel(logging.INFO)
        from bloomz_haystack.training import train as training

        clean_up_when_stopped()
        run = training.train_retriever if kind == "retriever" else training.train_ranker
        try:
            run(config, out, resume, data=data, base=base)
        except training.DivergedError as error:
            say(str(error))
            raise typer.Exit(1) from None
