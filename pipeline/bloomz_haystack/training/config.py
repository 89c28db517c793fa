"""YAML file -> `TrainConfig`: every setting of a training run, with its unit, in five sections.

An unknown key is an error, so that a typing mistake never trains for hours with a default. The defaults are the recipe
of the published retriever's card, for a base from the Hub.
"""

import logging
import os
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from bloomz_haystack.files.yaml_schema import check_values, read_yaml
from bloomz_haystack.training.kinds import is_on_hub

logger = logging.getLogger(__name__)

LanguagePair = Literal["english-english", "english-french", "french-english", "french-french"]  # question-passage
WholeNumber = Annotated[int, Field(ge=0)]
PositiveNumber = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Source:
    """Rows to train on, and their share of the draws (relative to the other sources)."""

    path: str  # file, folder, or name of a data set on the Hub
    weight: Amount = 1.0
    leave_out: tuple[str, ...] = ()  # skips rows whose "source", or else "id", begins with one of these
    stream: bool = False  # never hold all of it in memory; a data set on the Hub is always streamed
    licence: str = ""  # printed in the model card


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """What is drawn for a step."""

    sources: tuple[Source, ...] = ()
    validation: tuple[Source, ...] = ()  # measured at each save, instead of rows held out of the sources
    max_length: PositiveNumber = 256  # tokens kept of a text
    negatives: WholeNumber = 10  # hardest negatives used of a row
    false_negative: Amount = 0.8  # a negative scored at or above it is taken to answer, and dropped
    language_pairs: dict[LanguagePair, Amount] = field(default_factory=dict)  # weights; empty: uniform
    single_source: bool = False  # all rows of a step from one source: its passages are harder negatives
    inverse_cloze: Share = 0.0  # share of rows whose question is a span of the passage (arXiv 1906.00300)
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = (
        0.0  # retriever: share of each text's tokens left out of a step
    )


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """What is trained."""

    base: str | None = None  # checkpoint to start from: bundled name, folder or Hub name
    shape: dict[str, PositiveNumber] = field(default_factory=dict)  # or a new model: vocab_size, hidden_size, ...
    retriever: str | None = None  # ranker only: finds negatives where rows have none; gives a new ranker its vectors
    bag: bool = False  # retriever only: train a bag of token vectors, fast on a CPU (tiny/bag.py)
    lora_rank: WholeNumber = 0  # low-rank adapters instead of all weights (arXiv 2106.09685); 0: all weights
    gradient_checkpointing: bool = False  # compute each layer twice instead of keeping its activations


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """What is minimised."""

    symmetric: bool = False  # retriever: also passage -> question
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07  # retriever: initial, then learned
    negatives_per_positive: PositiveNumber = 3  # ranker: drawn from a row's negatives
    grid: WholeNumber = 0  # ranker: n > 1 scores the questions of n neighbouring rows against the passages of all n
    prior: Amount = 0.0  # ranker, grids: weight of a hybrid search's scores beside the log-odds (tiny/hybrid_prior.py)
    shuffled_words: Share = 0.0  # ranker: share of one-language grids whose words are exchanged (word_exchange.py)


@dataclass(frozen=True, config=_STRICT)
class OptimizerConfig:
    """How it is minimised: AdamW, linear warm-up, then cosine decay to zero."""

    learning_rate: Amount = 2e-5  # peak
    embedding_learning_rate: Amount | None = None  # peak, of the token vectors, each seldom seen; None: the same
    temperature_learning_rate: Amount = 1e-2
    warmup_steps: WholeNumber = 50


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """How long, in which order, in how much memory."""

    steps: PositiveNumber = 1000  # optimizer steps
    batch_size: PositiveNumber = 256  # questions (ranker: pairs) per step, over all processes
    chunk_tokens: PositiveNumber = 16_384  # computed together: bounds the memory of the activations
    workers: WholeNumber = 0  # processes that draw batches ahead, for a GPU that would wait; same batches
    gradient_cache: bool = True  # compute each chunk twice, keep the activations of one; False keeps all
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of matrix products; auto: bfloat16 on a GPU
    seed: WholeNumber = 0
    start_share: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the initial weights in those saved (arXiv 2109.01903)
    calibration: Literal["fit"] | tuple[float, ...] = ()  # ranker: "fit", or scale and shift of the log-odds
    score_prior: Amount = 0.0  # ranker: written into config.json; how much BloomzRanker counts the retriever's scores
    score_share: bool = False  # ranker: written there too; its scores are shares among the passages ranked together
    weights: Literal["float16", "float8_e4m3fn"] = "float16"  # dtype of the saved matrices
    save_every: PositiveNumber = 500  # steps between validations and saves
    tensorboard: bool = True


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """One training run. The same sections serve the retriever and the ranker."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)


def load_config(path: Path, *, data: str | None = None, base: str | None = None) -> TrainConfig:
    """Load a training configuration.

    :param path: YAML file, or the `training.json` of a run; `$NAME` in its paths and model names is read from the
        environment, and paths are relative to its folder. `extends: FILE` takes the keys that it lacks from FILE.
    :param data: replaces `data.sources`.
    :param base: replaces `model.base` and `model.shape`.
    :returns: the configuration.
    :raises ValueError: naming the key that is unknown, missing or of the wrong type, or the variable that is not set.
    """
    values = _extended(path, read_yaml(path))
    if isinstance(values, dict):
        values = values.get("settings", values)  # the record of a run holds more
    config = check_values(_current(path, values), TrainConfig, str(path))
    if data:
        data = data if is_on_hub(data) else str(Path(data).expanduser().absolute())
        config = replace(config, data=replace(config.data, sources=(Source(data),)))
    if base:
        config = replace(config, model=replace(config.model, base=base, shape={}))
    _check(path, config)
    return _resolved(path, config)


def dump_config(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as plain values, for the record kept beside the weights.

    :param config: the resolved configuration.
    :returns: a dictionary that YAML and JSON can hold; paths are cut to their names.
    """
    values = asdict(config)
    for key in ("sources", "validation"):
        values["data"][key] = [{**source, "path": portable_name(source["path"])} for source in values["data"][key]]
    for key in ("base", "retriever"):
        if values["model"][key]:
            values["model"][key] = portable_name(values["model"][key])
    return values


def portable_name(path: str) -> str:
    """Return the last part of a path, so that records name no machine; a name on the Hub stays as it is.

    :param path: file, folder or name on the Hub.
    :returns: a name.
    """
    local = Path(path).expanduser()
    return local.name if local.is_absolute() or local.exists() else path


def _extended(path: Path, values: Any) -> Any:  # noqa: ANN401
    """Values with the keys that their sections lack from the file beside them that they extend."""
    if not isinstance(values, dict) or not isinstance(values.get("extends"), str):
        return values
    other = path.parent / values.pop("extends")
    if other.resolve() == path.resolve() or not isinstance(first := read_yaml(other), dict) or "extends" in first:
        raise ValueError(f"{path}: 'extends' must name another file, which extends none, but got {other.name}")
    both = {name: _overlaid(first[name], section) for name, section in values.items() if name in first}
    return first | values | both


def _overlaid(section: Any, given: Any) -> Any:  # noqa: ANN401
    return section | given if isinstance(section, dict) and isinstance(given, dict) else given


# Settings of version 0.1 that became constants, with their values: a record of such a run stays a configuration.
_CONSTANTS = {
    ("data", "mined_rows"): 12_000,
    ("data", "validation_rows"): 300,
    ("optimizer", "weight_decay"): 0.0,
    ("optimizer", "max_grad_norm"): 1.0,
}


def _current(path: Path, values: Any) -> Any:  # noqa: ANN401
    """Values with a source given as plain text spelled out, and the keys of version 0.1 replaced, with a note."""
    if not isinstance(values, dict) or not all(isinstance(section, dict) for section in values.values()):
        return values
    sections: dict[Any, dict[Any, Any]] = {name: dict(section) for name, section in values.items()}
    data, model, run = (sections.get(name, {}) for name in ("data", "model", "run"))
    for key in ("sources", "validation"):
        if isinstance(data.get(key), list):
            data[key] = [{"path": source} if isinstance(source, str) else source for source in data[key]]

    def note(old: str, now: str) -> None:
        logger.warning("%s: %s %s; the next version will refuse it", path, old, now)

    for (section, key), constant in _CONSTANTS.items():
        if (given := sections.get(section, {}).pop(key, constant)) != constant:
            note(f"{section}.{key}", f"is no setting any more: {given} is ignored")
    if "precision" in run:
        note("run.precision", "is now run.compute_dtype")
        run["compute_dtype"] = run.pop("precision")
    if run.pop("calibrate", False) is True and not run.get("calibration"):
        note("run.calibrate: true", "is now run.calibration: fit")
        run["calibration"] = "fit"
    if isinstance(lora := model.pop("lora", None), dict):
        note("model.lora", "is now model.lora_rank, with alpha twice the rank")
        model["lora_rank"] = lora.get("rank", 16)
    return sections


def _check(path: Path, config: TrainConfig) -> None:
    data, model, calibration = config.data, config.model, config.run.calibration
    if not data.sources:
        raise ValueError(f"{path}: 'data.sources' must list at least one source, as - path: FILE (or give --data)")
    if bool(model.base) == bool(model.shape):
        raise ValueError(f"{path}: give either 'model.base' (a checkpoint; or --base) or 'model.shape' (a new model)")
    if config.run.workers > 1 and any(source.stream or is_on_hub(source.path) for source in data.sources):
        raise ValueError(f"{path}: run.workers must be at most 1 with a streamed source: each worker would read it all")
    if config.loss.grid == 1:
        raise ValueError(f"{path}: loss.grid must be 0 (no grids) or at least 2 rows, but got 1")
    if calibration and calibration != "fit" and not (len(calibration) == 2 and float(calibration[0]) > 0):
        raise ValueError(f"{path}: run.calibration must be fit, or a scale > 0 and a shift, but got {[*calibration]}")


def _resolved(path: Path, config: TrainConfig) -> TrainConfig:
    def located(sources: tuple[Source, ...]) -> tuple[Source, ...]:
        return tuple(replace(source, path=_data_path(path, source.path)) for source in sources)

    data = replace(config.data, sources=located(config.data.sources), validation=located(config.data.validation))
    base, retriever = (name and _expanded(path, name) for name in (config.model.base, config.model.retriever))
    return replace(config, data=data, model=replace(config.model, base=base, retriever=retriever))


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
