"""Model name, folder or bundled name -> weights and tokenizer on a device, in a dtype, with the reason for the choice.

Whoever asks twice for the same checkpoint with the same settings gets the same copy; it is freed when the last user
closes, or is itself forgotten. Knows nothing of the forward pass or of Haystack.
"""

import ctypes
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import torch
from tokenizers import Tokenizer
from torch import nn

from haystack_integrations.common.bloomz.bloom import HEAD
from haystack_integrations.common.bloomz.forking import ForkSafeLock, compute_alone_after_fork
from haystack_integrations.common.bloomz.identity import ModelIdentity, model_name, weights_of
from haystack_integrations.common.bloomz.int8 import Precision, check_precision
from haystack_integrations.common.bloomz.int8_choice import chosen_kernels, forced_kernel, in_words, slower_than_float32
from haystack_integrations.common.bloomz.int8_kernels import KernelChoice
from haystack_integrations.common.bloomz.linear import prepare_body
from haystack_integrations.common.bloomz.shared_calls import SharedCalls
from haystack_integrations.common.bloomz.sources import (
    CheckpointSource,
    HuggingFaceFiles,
    LoadedWeights,
    Task,
    plain_files,
)
from haystack_integrations.common.bloomz.tokens import TokenIds

logger = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

BUNDLED_FOLDER = Path(__file__).parent / "bundled"
BUNDLED_RETRIEVER = "tiny-fr-en-retriever"
BUNDLED_RANKER = "tiny-fr-en-ranker"
DEFAULT_MAX_LENGTH = 2048  # what Bloom was pre-trained with, when the config has no seq_length

_POSITIVE_LABELS = {"label_1", "1", "true", "yes", "positive", "relevant"}


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: one line with what was asked for and what to do."""


class Placement(NamedTuple):
    """Where and in what dtype a model runs, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str


class LoadSettings(NamedTuple):
    """How to load a checkpoint; the names are those of `from_pretrained`."""

    revision: str | None = None
    local_files_only: bool = False
    model_kwargs: dict[str, Any] | None = None
    tokenizer_kwargs: dict[str, Any] | None = None
    config_kwargs: dict[str, Any] | None = None
    precision: Precision | None = None


@dataclass
class Checkpoint:
    """Weights and tokenizer, ready to use, shared between `users`."""

    name: str
    model: Any  # a `BloomBody` or `BloomWithHead`, or transformers' own, whose layers have the same names
    tokenizer: Tokenizer
    placement: Placement
    max_length: int
    empty_token: int
    kernels: dict[str, KernelChoice] = field(default_factory=dict)  # of int8 linears, by shape
    key: str = ""
    users: int = 0
    identity: ModelIdentity | None = None
    short_calls: SharedCalls[TokenIds, torch.Tensor] = field(default_factory=lambda: SharedCalls(most=512))


# The checkpoints open in this process. Weak: a user that vanishes without closing does not keep its weights alive.
_shelf: WeakValueDictionary[str, Checkpoint] = WeakValueDictionary()
_shelf_lock = ForkSafeLock()
# One load at a time: from_pretrained sets torch's default dtype for the whole process while it works.
_loading_lock = ForkSafeLock()


def choose_placement(
    device: str | None = None, dtype: torch.dtype | None = None, precision: Precision | None = None
) -> Placement:
    """Choose device and dtype: CUDA in bfloat16 where there is one, else the CPU in float32.

    :param device: force one ("cpu", "cuda:1", "mps"); None chooses.
    :param dtype: force one; None chooses.
    :param precision: "int8" for linears of 8 bits, on a CPU, all the rest in float32.
    :returns: the choice and the reason, for the log.
    :raises CheckpointError: if CUDA is asked for where there is none, or "int8" where it cannot be.

    >>> choose_placement("cpu").dtype
    torch.float32
    """
    if device and device.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError(
            f"device {device!r} was asked for, but torch sees no CUDA device: use 'cpu' or leave it out"
        )
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # numbered, so that "cuda" and "cuda:0" share one copy
    chosen = torch.device(f"cuda:{torch.cuda.current_device()}" if name == "cuda" else name)
    why_device = "asked for" if device else ("CUDA is available" if chosen.type == "cuda" else "no CUDA device")
    check_precision(precision)
    if precision == "int8":
        _check_int8(chosen, dtype)
        return Placement(chosen, torch.float32, f"{chosen} ({why_device}), int8 linears (asked for), the rest float32")
    if dtype is not None:
        return Placement(chosen, dtype, f"{chosen} ({why_device}), {dtype} (asked for)")
    if chosen.type == "cuda" and torch.cuda.is_bf16_supported():
        return Placement(chosen, torch.bfloat16, f"{chosen} ({why_device}), bfloat16 (tensor cores)")
    # bf16 without bf16 units is six times slower than fp32 on a CPU (19 against 130 GFLOP/s measured).
    return Placement(chosen, torch.float32, f"{chosen} ({why_device}), float32 (exact, and the fastest here)")


def open_checkpoint(
    model: str,
    task: Task,
    *,
    device: str | None = None,
    token: str | None = None,
    settings: LoadSettings | None = None,
    progress_bar: bool = False,
) -> Checkpoint:
    """Load a Bloom checkpoint, or share the copy that is already open with the same settings.

    :param model: bundled name, local folder or name on the Hugging Face Hub.
    :param task: "embed" for a `BloomModel`, "rank" for a `BloomForSequenceClassification`.
    :param device: as for `choose_placement`.
    :param token: for gated or private models on the Hub.
    :param settings: how to load.
    :param progress_bar: show the one of transformers while it loads.
    :returns: the checkpoint; give it back with `close_checkpoint`.
    :raises CheckpointError: if it cannot be found, is not a Bloom, or is a ranker where a retriever is needed, or the
        reverse.
    """
    compute_alone_after_fork()
    settings = settings or LoadSettings()
    dtype = _forced_dtype(settings.model_kwargs)
    placement = choose_placement(device, dtype, settings.precision)
    key = json.dumps([model, task, str(placement.device), str(placement.dtype), *settings], sort_keys=True, default=str)
    with _loading_lock:
        with _shelf_lock:
            checkpoint = _shelf.get(key)
        if checkpoint is None:
            checkpoint = _load(model, task, placement, token, settings, progress_bar)
            checkpoint.key = key
        with _shelf_lock:
            _shelf[key] = checkpoint
            checkpoint.users += 1
    return checkpoint


def close_checkpoint(checkpoint: Checkpoint) -> None:
    """Return a checkpoint back: when the last user has, and drops it, the weights are freed.

    :param checkpoint: from `open_checkpoint`, once for each call of it.
    """
    with _shelf_lock:
        checkpoint.users -= 1
        if checkpoint.users <= 0 and _shelf.get(checkpoint.key) is checkpoint:
            del _shelf[checkpoint.key]


def resolve(model: str) -> str:
    """Turn a bundled name into its folder; leave any other name as it is.

    :param model: name or folder.
    :returns: what `from_pretrained` understands.
    """
    bundled = BUNDLED_FOLDER / model
    return str(bundled) if model in (BUNDLED_RETRIEVER, BUNDLED_RANKER) else str(Path(model).expanduser())


def positive_label(config: Any) -> int:  # noqa: ANN401
    """Find which of the two labels means "relevant".

    :param config: of a `BloomForSequenceClassification`.
    :returns: 0 or 1.
    :raises CheckpointError: if there are not two labels, or not exactly one of them has a known positive name.
    """
    names = {int(index): str(name) for index, name in config.id2label.items()}
    matches = [index for index, name in names.items() if name.lower() in _POSITIVE_LABELS]
    if len(names) != 2 or len(matches) != 1:
        raise CheckpointError(
            f"cannot tell which label means relevant: got labels {names}, expected two, one of them named LABEL_1 "
            f"(or {', '.join(sorted(_POSITIVE_LABELS - {'label_1'}))}): set id2label in the model's config.json"
        )
    return matches[0]


def _check_int8(device: torch.device, dtype: torch.dtype | None) -> None:
    if dtype is not None:
        raise CheckpointError(f"precision 'int8' and dtype {dtype} were both asked for: leave one of them out")
    if device.type != "cpu":
        raise CheckpointError(
            f"precision 'int8' runs on a CPU only, but the device is {device}: use device 'cpu', or leave precision out"
        )
    forced_kernel()  # refused now, not in the middle of the weights


def _forced_dtype(model_kwargs: dict[str, Any] | None) -> torch.dtype | None:
    asked = (model_kwargs or {}).get("dtype", (model_kwargs or {}).get("torch_dtype"))
    if asked is None or isinstance(asked, torch.dtype):
        return asked
    dtype = getattr(torch, str(asked).removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise CheckpointError(f"unknown dtype {asked!r} in model_kwargs: use 'float32', 'bfloat16' or 'float16'")
    return dtype


def _load(
    model: str, task: Task, placement: Placement, token: str | None, settings: LoadSettings, progress_bar: bool
) -> Checkpoint:
    source = _source(model, token, settings, progress_bar)
    config = _loaded(model, source.config)
    if config.model_type != "bloom":
        raise CheckpointError(f"{model!r} is a {config.model_type!r} model, but only Bloom checkpoints can be loaded")
    _check_architecture(model, task, config)
    if task == "rank":
        positive_label(config)
    tokenizer, eos = _loaded(model, source.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # What is cut to 8 bits is read from the mapped file, layer by layer: it is never in memory all at once.
    dtype = None if settings.precision == "int8" else placement.dtype
    loaded = _loaded(model, lambda: source.weights(task, config, dtype))
    _check_weights(model, task, config, loaded)
    weights = _placed(loaded.model, placement, settings)
    logger.info("%s: %s", model, placement.reason)
    kernels = chosen_kernels(weights)
    _tell_kernels(model, kernels)
    return Checkpoint(
        name=model,
        model=weights,
        tokenizer=tokenizer,
        placement=placement,
        max_length=int(getattr(config, "seq_length", None) or DEFAULT_MAX_LENGTH),
        empty_token=_empty_token(model, eos, config),
        kernels=kernels,
        identity=_identity(model, source, config, settings),
    )


def _source(model: str, token: str | None, settings: LoadSettings, progress_bar: bool) -> CheckpointSource:
    source, kwargs = resolve(model), settings.model_kwargs or {}
    if not settings.config_kwargs and not settings.tokenizer_kwargs and not set(kwargs) - {"dtype", "torch_dtype"}:
        plain = plain_files(source, settings.revision, settings.local_files_only)
        if plain is not None:
            return plain
    # trust_remote_code: Bloom is part of transformers, so code that comes with a checkpoint is never run.
    where = {
        "revision": settings.revision or "main",
        "local_files_only": settings.local_files_only,
        "token": token,
        "trust_remote_code": False,
    }
    own = {
        "config": settings.config_kwargs or {},
        "tokenizer": settings.tokenizer_kwargs or {},
        "model": {key: value for key, value in kwargs.items() if key not in ("dtype", "torch_dtype")},
    }
    return HuggingFaceFiles(source, where, own, progress_bar)


def _tell_kernels(model: str, kernels: dict[str, KernelChoice]) -> None:
    if kernels:
        logger.info("%s: int8 linears %s", model, in_words(kernels))
    slower = slower_than_float32(kernels)
    if slower:
        logger.warning(
            "%s: on this CPU int8 saves memory but is slower than float32: a layer takes %.3g ms instead of %.3g; "
            "leave precision out for speed",
            model,
            *slower,
        )


def _identity(model: str, source: CheckpointSource, config: Any, settings: LoadSettings) -> ModelIdentity:  # noqa: ANN401
    kwargs, folder = settings.model_kwargs or {}, source.folder
    if folder is None:
        from transformers.utils import cached_file

        places = {name: kwargs[name] for name in ("cache_dir", "subfolder") if name in kwargs}
        try:
            found = cached_file(model, "config.json", revision=settings.revision, local_files_only=True, **places)
        except OSError:  # a cache laid out in another way: the commit says as much
            found = None
        folder = Path(found).parent if found else None
    elif "subfolder" in kwargs:
        folder /= kwargs["subfolder"]
    commit = getattr(config, "_commit_hash", None) or ""
    return ModelIdentity(model_name(model), (weights_of(folder) if folder else "") or commit)


def _check_architecture(model: str, task: Task, config: Any) -> None:  # noqa: ANN401
    """Refuse by what the configuration says, before gigabytes of weights are read; one that says nothing passes."""
    named = list(getattr(config, "architectures", None) or [])
    if task == "embed" and any(name.endswith("ForSequenceClassification") for name in named):
        raise CheckpointError(_is_a_ranker(model, named[0]))
    if task == "rank" and "BloomModel" in named:
        raise CheckpointError(_is_no_ranker(model, "a retriever (BloomModel)"))


def _is_a_ranker(model: str, why: str) -> str:
    return (
        f"{model!r} is a ranker ({why}), but a retriever is needed here: use it as the ranker, and for the retriever "
        f"{BUNDLED_RETRIEVER}, cmarkea/bloomz-560m-retriever-v2 or one of your own"
    )


def _is_no_ranker(model: str, what: str) -> str:
    return (
        f"{model!r} is {what}, but a ranker is needed here, with a classification head: use {BUNDLED_RANKER}, "
        "cmarkea/bloomz-560m-reranking or one of your own"
    )


def _check_weights(model: str, task: Task, config: Any, loaded: LoadedWeights) -> None:  # noqa: ANN401
    """Refuse by the weights themselves what the configuration does not tell."""
    missing = loaded.missing
    if task == "embed" and not config.architectures and HEAD in loaded.unexpected:
        raise CheckpointError(_is_a_ranker(model, "its weights have a classification head"))
    if task == "rank" and missing == [HEAD]:
        raise CheckpointError(_is_no_ranker(model, "a retriever or a language model (no classification head)"))
    if missing:
        raise CheckpointError(f"{model!r} lacks {len(missing)} weights (first: {missing[0]}): is it complete?")


def _placed(weights: nn.Module, placement: Placement, settings: LoadSettings) -> nn.Module:
    """Return the model where it is to run, with the fastest layers there are for it."""
    if "device_map" not in (settings.model_kwargs or {}):
        weights = weights.to(placement.device)
    weights = weights.eval().requires_grad_(False)
    if placement.device.type == "cpu" and prepare_body(weights.base_model, settings.precision):  # type: ignore[arg-type]
        _leave_file(weights)
    return weights


def _leave_file(weights: nn.Module) -> None:
    """Copy what prepared layers left behind, in float32, so that the mapped file is let go; return freed memory."""
    for parameter in weights.parameters():
        parameter.data = parameter.data.to(torch.float32, copy=True)
    if sys.platform.startswith("linux"):
        with suppress(AttributeError):  # another libc than glibc
            ctypes.CDLL(None).malloc_trim(0)  # rounding left holes: 160 of 1,000 MB with bloomz-560m


def _loaded(model: str, load: Callable[[], Loaded]) -> Loaded:
    """Load a part of a checkpoint; say in one line why it failed."""
    try:
        return load()
    except Exception as error:
        # Hub, file system, JSON and safetensors errors share no base class and come as paragraphs.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"cannot load {model!r}: expected a bundled name ({BUNDLED_RETRIEVER}, {BUNDLED_RANKER}), a local folder "
            f"or a model on the Hugging Face Hub ({type(error).__name__}: {reason[:300]})"
        ) from error


def _empty_token(model: str, eos: int | None, config: Any) -> int:  # noqa: ANN401
    if eos is None:
        eos = config.eos_token_id
    if isinstance(eos, list):
        eos = eos[0] if eos else None
    if eos is None or not 0 <= eos < config.vocab_size:
        raise CheckpointError(f"{model!r} names no end-of-text token ({eos}), which stands for an empty text")
    return int(eos)
