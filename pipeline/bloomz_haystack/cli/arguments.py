"""Words of the command line -> checked values, and the options that several verbs share.

Imports nothing heavy, so that a wrong argument is refused at once. A message that starts with "must" is shown after the
option's name.
"""

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from bloomz_haystack.files.printable import printable
from bloomz_haystack.files.shard import Shard
from bloomz_haystack.settings import AskSettings, IndexSettings

_UNDECODED = re.compile("[\udc80-\udcff]")
LARGEST_INTEGER = 2**31 - 1  # more than any store holds, and within what every library counts with


def positive(value: str | int) -> int:
    """Return a whole number above 0."""
    return _whole(value, 1, "> 0")


def not_negative(value: str | int) -> int:
    """Return a whole number, 0 or more."""
    return _whole(value, 0, ">= 0")


def probability(value: str | float) -> float:
    """Return a number from 0 to 1."""
    number = _number(value)
    if not 0 <= number <= 1:
        raise typer.BadParameter(f"must be a probability from 0 to 1, but got {_short(value)}")
    return number


def weight(value: str | float) -> float:
    """Return a finite number, 0 or more."""
    number = _number(value)
    if not 0 <= number < math.inf:
        raise typer.BadParameter(f"must be a number >= 0, but got {_short(value)}")
    return number


def text(value: str) -> str:
    """Return text that is all Unicode: bytes of an argument that are not UTF-8 are read as Windows-1252.

    :param value: as Python gives it; a byte that it could not decode is a lone surrogate.
    :returns: the text.
    :raises typer.BadParameter: if it is not text in Windows-1252 either.

    >>> text("caf\\udce9 d'été")
    "café d'été"
    """
    try:
        return _UNDECODED.sub(lambda byte: bytes([ord(byte[0]) - 0xDC00]).decode("cp1252"), value)
    except UnicodeDecodeError:
        raise typer.BadParameter(f"must be UTF-8 or Windows-1252, but got {printable(value)}") from None


def threshold(value: str | float) -> float | str:
    """Return a number from 0 to 1, or "auto"."""
    return "auto" if value == "auto" else probability(value)


def precision(value: str) -> str:
    """Return the one precision that can be asked for."""
    if value != "int8":
        raise typer.BadParameter(f"must be int8, or be left out, but got {value!r}")
    return value


def shard(value: str) -> Shard:
    """Return which of how many processes: "3/16" is the fourth of sixteen.

    :param value: I/N, I from 0.
    :returns: the shard.
    :raises typer.BadParameter: if it is anything else.
    """
    index, _, count = value.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) <= LARGEST_INTEGER):
        raise typer.BadParameter(f"must be I/N with I from 0 to N - 1, as 3/16, but got {_short(value)!r}")
    return Shard(int(index), int(count))


def check_store(folder: Path) -> None:
    """Refuse a folder without a store, before anything is imported to open it.

    :param folder: of the store.
    :raises ValueError: if it does not exist.
    """
    if not folder.exists():
        raise ValueError(f"no store at {folder}: make one with: bloomz index PATH --store {folder}")


def check_source(store: Path | None, pipeline: Path | None) -> None:
    """Refuse all but one of a store and a pipeline, and one that is not there.

    :param store: folder, if given.
    :param pipeline: YAML file, if given.
    :raises ValueError: if there are none or two of them, or it does not exist.
    """
    if store is None and pipeline is None:
        raise ValueError("missing option '--store' FOLDER, or '--pipeline' FILE.yaml in its place")
    if store is not None and pipeline is not None:
        raise ValueError("--store and --pipeline: give one of the two")
    if pipeline is not None and not pipeline.is_file():
        raise ValueError(f"no such pipeline: {pipeline}")
    if store is not None:
        check_store(store)


def changed_settings(settings: AskSettings | IndexSettings, allowed: Iterable[str]) -> dict[str, Any]:
    """Return the settings that are not the defaults, for a pipeline that has its own of most.

    :param settings: from options.
    :param allowed: names of those that count beside a pipeline.
    :returns: by name.
    :raises ValueError: if another one was changed.
    """
    changed = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if getattr(settings, field.name) != field.default
    }
    if own := [f"--{name.replace('_', '-')}" for name in changed if name not in allowed]:
        raise ValueError(f"{', '.join(own)}: the pipeline says it; change it in the YAML file")
    return changed


def check_paths(paths: Iterable[Path], gone: bool = False) -> None:
    """Refuse paths that lead nowhere, or to a pipe, before a model is loaded.

    :param paths: files and folders.
    :param gone: whether they may be gone.
    :raises ValueError: if one is neither: better nothing than half of what was meant.
    """
    paths = list(paths)
    if missing := [str(path) for path in paths if not path.exists() and not gone]:
        raise ValueError(f"no such file or folder: {', '.join(missing)} (--prune removes what a store holds of it)")
    if odd := [str(path) for path in paths if path.exists() and not (path.is_file() or path.is_dir())]:
        raise ValueError(f"not a regular file or a folder: {', '.join(odd)}")


def _whole(value: str | int, least: int, limit: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number {limit}, but got {_short(value)!r}") from None
    if number < least:
        raise typer.BadParameter(f"must be {limit}, but got {_short(value)}")
    if number > LARGEST_INTEGER:
        raise typer.BadParameter(f"must be at most {LARGEST_INTEGER}, but got {_short(value)}")
    return number


def _number(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise typer.BadParameter(f"must be a number, but got {_short(value)!r}") from None


def _short(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= 40 else shown[:39] + "…"


INTEGER: dict[str, Any] = {"parser": positive, "metavar": "INTEGER"}
NOT_NEGATIVE: dict[str, Any] = {"parser": not_negative, "metavar": "INTEGER"}
THRESHOLD: dict[str, Any] = {"parser": threshold, "metavar": "FLOAT|auto"}
WEIGHT: dict[str, Any] = {"parser": weight, "metavar": "FLOAT"}
TEXT: dict[str, Any] = {"parser": text, "metavar": "TEXT"}
PRECISION: dict[str, Any] = {"parser": precision, "metavar": "TEXT"}

StoreOption = Annotated[Path, typer.Option("--store", help="Store folder.", show_default=False)]
StoreUnlessPipeline = Annotated[Path | None, typer.Option("--store", help="Store folder.", show_default=False)]
PipelineOption = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="Pipeline in YAML, in place of --store: any document store, with the models that it names.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Retriever: Hub name or folder; default: the store's own, else tiny-fr-en-retriever."),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision", help='"int8": 8-bit linears, on a CPU; default: float32 there.', show_default=False, **PRECISION
    ),
]
WaitOption = Annotated[
    float, typer.Option("--wait", help="Seconds to wait while another process holds the store.", **WEIGHT)
]
ShardOption = Annotated[
    Shard | None,
    typer.Option(
        "--shard",
        parser=shard,
        metavar="I/N",
        help="Do the share of process I of N, I from 0; all may run at once, on any machine; default: everything.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _be_verbose(verbose: bool) -> None:
    if verbose:
        logging.getLogger("haystack_integrations.common.bloomz").setLevel(logging.INFO)


VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", callback=_be_verbose, help="Also show the device of the models and the int8 kernels."),
]
