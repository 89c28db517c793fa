"""YAML file -> ``TrainConfig``: every knob of a training run, with its unit, in five sections.

An unknown key is an error, so that a typing mistake never trains for hours with a default. The defaults are the recipe
of the published retriever's card, for a base from the Hub.
"""

import math
import os
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from bloomz_haystack.training.data.stream import is_on_hub

LANGUAGE_PAIRS = tuple(
    f"{question}-{passage}" for question in ("english", "french") for passage in ("english", "french")
)


@dataclass(frozen=True)
class Source:
    """Rows to train on, and their share of the draws (relative to the other sources)."""

    path: str  # file, folder, or name of a data set on the Hub
    weight: float = 1.0
    leave_out: tuple[str, ...] = ()  # rows whose "source", or else "id", begins with one of these
    stream: bool = False  # never hold all of it in memory; what is on the Hub is always streamed
    licence: str = ""  # told in the model card


@dataclass(frozen=True)
class DataConfig:
    """What is drawn for a step."""

    sources: tuple[Source, ...] = ()
    validation: tuple[Source, ...] = ()  # measured at each save, instead of rows held out of the sources
    max_length: int = 256  # tokens kept of a text
    negatives: int = 10  # hardest negatives used of a row
    mined_rows: int = 12_000  # ranker: rows of a source that negatives are found for, an even sample, where it has none
    false_negative: float = 0.8  # a negative scored at or above it answers too: dropped
    language_pairs: dict[str, float] = field(default_factory=dict)  # weight of question-passage; none given: uniform
    single_source: bool = False  # all pairs of a step from one source: its passages are harder negatives
    inverse_cloze: float = 0.0  # share of pairs whose question is a span of the passage (arXiv 1906.00300)
    validation_rows: int = 300  # held out of each source and measured at each save


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters instead of all weights (arXiv 2106.09685)."""

    rank: int = 16
    alpha: int = 32


@dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    base: str | None = None  # checkpoint to start from: bundled name, folder or Hub name
    shape: dict[str, int] = field(default_factory=dict)  # or a new model: vocab_size, hidden_size, n_layer, n_head
    retriever: str | None = None  # ranker only: finds negatives where rows have none; a new ranker takes its vectors
    bag: bool = False  # retriever only: train a bag of token vectors, new or the base's own, fast on a CPU (bag.py)
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False  # compute each layer twice, keep its activations never


@dataclass(frozen=True)
class LossConfig:
    """What is minimised."""

    symmetric: bool = False  # retriever: also passage -> question
    temperature: float = 0.07  # retriever: where the learnt one starts
    negatives_per_positive: int = 3  # ranker: drawn from a row's negatives
    grid: int = 0  # ranker: n > 1 scores the questions of n neighbouring rows against the passages of all n instead
    shuffled_words: float = 0.0  # share of grids of one language whose words are exchanged (shuffled_words.py)


@dataclass(frozen=True)
class OptimizerConfig:
    """How it is minimised: AdamW, linear up, then cosine down to zero."""

    learning_rate: float = 2e-5  # peak
    embedding_learning_rate: float | None = None  # peak, of the token vectors: each is seen seldom; None: the same
    temperature_learning_rate: float = 1e-2
    warmup_steps: int = 50
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class RunConfig:
    """How long, in which order, in how much memory."""

    steps: int = 1000  # optimiser steps
    batch_size: int = 256  # questions (ranker: pairs) a step, over all processes
    chunk_tokens: int = 16_384  # computed together: bounds the memory of the activations
    workers: int = 0  # processes that draw batches ahead, for a GPU that would wait; the batches stay the same
    gradient_cache: bool = True  # compute each chunk twice, keep its activations once; False keeps those of all chunks
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the matrix products; auto: bfloat16 on a GPU
    seed: int = 0
    start_share: float = 0.0  # of the weights it started from in those measured and saved (WiSE-FT, arXiv 2109.01903)
    calibrate: bool = False  # ranker: log-odds scaled and shifted to be probabilities on held-out rows (calibration.py)
    calibration: tuple[float, ...] = ()  # ranker: scale and shift of the log-odds, instead of fitting them
    score_prior: float = (
        0.0  # ranker: written into config.json, for BloomzRanker: how much the retriever's scores count
    )
    weights: Literal["float16", "float8_e4m3fn"] = "float16"  # of the matrices that are saved
    save_every: int = 500  # steps between validations and saves
    tensorboard: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The same sections serve the retriever and the ranker."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


_AT_LEAST_ONE = ("max_length", "rank", "steps", "batch_size", "chunk_tokens", "save_every", "negatives_per_positive")


def load_config(path: Path, *, data: str | None = None, base: str | None = None) -> TrainConfig:
    """Read a training configuration.

    :param path: YAML file, or the ``training.json`` of a run; ``$NAME`` in its paths and model names is read from the
        environment, and paths are relative to its folder.
    :param data: takes the place of ``data.sources``.
    :param base: takes the place of ``model.base`` and of ``model.shape``.
    :returns: the configuration.
    :raises ValueError: naming the key that is unknown, missing or of the wrong type, or the variable that is not set.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the training configuration {path}: {' '.join(str(error).split())}") from error
    if isinstance(values, dict):
        values = values.get("settings", values)  # the record of a run holds more
    config: TrainConfig = _value(f"{path}", TrainConfig, {} if values is None else values)
    if data:
        data = data if is_on_hub(data) else str(Path(data).expanduser().absolute())
        config = replace(config, data=replace(config.data, sources=(Source(data),)))
    if base:
        config = replace(config, model=replace(config.model, base=base, shape={}))
    return _checked(path, config)


def dump_config(config: TrainConfig) -> dict[str, Any]:
    """Turn the configuration into plain values, for the record kept beside the weights.

    :param config: the resolved configuration.
    :returns: a dictionary that YAML and JSON can hold; paths are cut to their names.
    """
    values = asdict(config)
    for key in ("sources", "validation"):
        values["data"][key] = [{**source, "path": bare_name(source["path"])} for source in values["data"][key]]
    for key in ("base", "retriever"):
        if values["model"][key]:
            values["model"][key] = bare_name(values["model"][key])
    return values


def bare_name(path: str) -> str:
    """Cut a path to its last part, so that records name no machine; leave a name on the Hub as it is.

    :param path: file, folder or name on the Hub.
    :returns: a name.
    """
    local = Path(path).expanduser()
    return local.name if local.is_absolute() or local.exists() else path


def _checked(path: Path, config: TrainConfig) -> TrainConfig:
    data, model = config.data, config.model
    if not data.sources:
        raise ValueError(f"{path}: 'data.sources' must list at least one source, as - path: FILE (or give --data)")
    if bool(model.base) == bool(model.shape):
        raise ValueError(f"{path}: give either 'model.base' (a checkpoint; or --base) or 'model.shape' (a new model)")
    if config.run.workers > 1 and any(source.stream or is_on_hub(source.path) for source in data.sources):
        raise ValueError(
            f"{path}: run.workers must be at most 1 with a source that is streamed: each would read it all"
        )
    if config.loss.grid == 1:
        raise ValueError(f"{path}: loss.grid must be 0 (no grids) or at least 2 rows, but got 1")
    told = config.run.calibration
    if told and not (len(told) == 2 and told[0] > 0):
        raise ValueError(f"{path}: run.calibration must be a scale > 0 and a shift, but got {list(told)}")
    if config.run.start_share >= 1:
        raise ValueError(
            f"{path}: run.start_share must be below 1 (1 would save the start), but got {config.run.start_share:g}"
        )
    unknown = sorted(set(data.language_pairs) - set(LANGUAGE_PAIRS))
    if unknown:
        raise ValueError(f"{path}: unknown language pair {unknown[0]!r}; known are {', '.join(LANGUAGE_PAIRS)}")
    data = replace(data, sources=_resolved(path, data.sources), validation=_resolved(path, data.validation))
    names: dict[str, Any] = {
        key: _expanded(path, value) for key in ("base", "retriever") if (value := getattr(model, key))
    }
    return replace(config, data=data, model=replace(model, **names))


def _resolved(path: Path, sources: tuple[Source, ...]) -> tuple[Source, ...]:
    return tuple(replace(source, path=_data_path(path, source.path)) for source in sources)


def _data_path(path: Path, name: str) -> str:
    expanded = _expanded(path, name)
    resolved = path.parent / Path(expanded).expanduser()
    if not resolved.exists():
        if is_on_hub(expanded):
            return expanded
        raise ValueError(f"{path}: no such data file: {resolved}")
    return str(resolved)


def _expanded(path: Path, value: str) -> str:
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise ValueError(f"{path}: {value} names an environment variable that is not set")
    return expanded


def _value(where: str, kind: Any, value: Any) -> Any:  # noqa: ANN401
    """Check a value of the YAML file against the type of its field, and build what the field holds."""
    if get_origin(kind) in (types.UnionType, Union):  # T | None
        return None if value is None else _value(where, get_args(kind)[0], value)
    if kind is Source and isinstance(value, str):
        value = {"path": value}
    if is_dataclass(kind):
        return _section(where, kind, value)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(f"{where}[{place}]", get_args(kind)[0], item) for place, item in enumerate(value))
    if get_origin(kind) is dict and isinstance(value, dict):
        return {str(key): _value(f"{where}.{key}", get_args(kind)[1], item) for key, item in value.items()}
    if kind in (int, float):
        return _number(where, kind, value)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    if value in choices or (not choices and kind in (str, bool) and isinstance(value, kind)):
        return value
    expected = " or ".join(map(str, choices)) or getattr(get_origin(kind) or kind, "__name__", str(kind))
    raise ValueError(f"{where} must be {expected.replace('tuple', 'list')}, but got {value!r}")


def _section(where: str, kind: Any, values: object) -> Any:  # noqa: ANN401
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a mapping of settings, but got {type(values).__name__}")
    hints = get_type_hints(kind)
    unknown = sorted(str(key) for key in set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(hints)}")
    missing = [item.name for item in fields(kind) if item.name == "path" and "path" not in values]
    if missing:
        raise ValueError(f"{where}: a data source has a path, but got {values}")
    return kind(**{key: _value(f"{where}: {key}", hints[key], value) for key, value in values.items()})


def _number(where: str, kind: type[int] | type[float], value: object) -> float:
    # YAML 1.1 reads 1e-3, without a dot, as text.
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    name = where.rsplit(" ", 1)[-1]
    least = 1 if name in _AT_LEAST_ONE else -math.inf if name.startswith("calibration[") else 0
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number < math.inf:
        number = None
    if number is None or kind(number) != number:
        raise ValueError(
            f"{where} must be a {'whole ' if kind is int else ''}number of at least {least}, but got {value!r}"
        )
    return kind(number)
