"""YAML file -> ``TrainConfig``: every knob of a training run, with its unit.

An unknown key is an error, so that a typing mistake never trains for hours with a default.
"""

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Source:
    """A file of pairs or of parallel sentences, and its share of the draws (relative to the other sources)."""

    path: str
    weight: float = 1.0


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The same fields serve the retriever and the ranker."""

    data: list[Source]
    base: str | None = None  # checkpoint to start from: bundled name, folder or Hub name; None starts from ``shape``
    shape: dict[str, int] = field(default_factory=dict)  # vocab_size, hidden_size, n_layer, n_head of a new model
    retriever: str | None = None  # ranker only: finds its hard negatives; a new ranker takes its tokenizer and vectors
    steps: int = 1000  # optimiser steps
    batch_size: int = 256  # pairs a step
    learning_rate: float = 1e-3  # peak, of the matrices
    embedding_learning_rate: float = 1e-2  # peak, of the token vectors: each is seen seldom
    warmup_steps: int = 50  # linear up, then cosine down to zero
    max_length: int = 192  # tokens kept of a passage
    inverse_cloze: float = 0.25  # share of pairs whose question is a span of the passage (arXiv 1906.00300)
    symmetric: bool = True  # also passage -> question; False is the card's recipe
    negatives: int = 3  # ranker only: mined negatives a positive
    seed: int = 0
    save_every: int = 500  # steps between checkpoints


_NUMBERS: dict[str, type[int] | type[float]] = {
    item.name: item.type for item in fields(TrainConfig) if item.type in (int, float)
}


def load_config(path: Path) -> TrainConfig:
    """Read a training configuration.

    :param path: YAML file; ``$NAME`` in its paths and model names is read from the environment.
    :returns: the configuration.
    :raises ValueError: naming the key that is unknown or missing, or the variable that is not set.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the training configuration {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of settings, but got {type(values).__name__}")
    known = {item.name for item in fields(TrainConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if not values.get("data"):
        raise ValueError(f"{path}: 'data' must list at least one source, as - path: FILE")
    if bool(values.get("base")) == bool(values.get("shape")):
        raise ValueError(f"{path}: give either 'base' (a checkpoint) or 'shape' (a new model)")
    sources = [_source(path, item) for item in values["data"]]
    for key in ("base", "retriever"):
        if values.get(key):
            values[key] = _expanded(path, str(values[key]))
    numbers = {key: _number(path, key, values[key]) for key in values if key in _NUMBERS}
    return TrainConfig(**{**values, **numbers, "data": sources})


def dump_config(config: TrainConfig) -> dict[str, Any]:
    """Turn the configuration into plain values, for the record kept beside the weights.

    :param config: the resolved configuration.
    :returns: a dictionary that YAML and JSON can hold; absolute paths are cut to their names.
    """
    values = asdict(config)
    values["data"] = [{**source, "path": Path(source["path"]).name} for source in values["data"]]
    for key in ("base", "retriever"):
        if values[key] and Path(values[key]).is_absolute():
            values[key] = Path(values[key]).name
    return values


def _number(path: Path, key: str, value: object) -> float:
    # YAML 1.1 reads 1e-3, without a dot, as text.
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    kind = _NUMBERS[key]
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0 or kind(number) != number:
        raise ValueError(f"{path}: {key} must be a positive {kind.__name__}, but got {value!r}")
    return kind(number)


def _source(path: Path, item: dict[str, Any] | str) -> Source:
    given = {"path": item} if isinstance(item, str) else dict(item)
    if set(given) - {"path", "weight"} or "path" not in given:
        raise ValueError(f"{path}: a data source has a path and a weight, but got {given}")
    resolved = path.parent / Path(_expanded(path, given["path"])).expanduser()
    if not resolved.is_file():
        raise ValueError(f"{path}: no such data file: {resolved}")
    return Source(str(resolved), float(given.get("weight", 1.0)))


def _expanded(path: Path, value: str) -> str:
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise ValueError(f"{path}: {value} names an environment variable that is not set")
    return expanded
