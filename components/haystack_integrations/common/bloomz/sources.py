"""Where a checkpoint's configuration, tokenizer and weights come from: plain files, or whatever transformers can load.

Importing transformers takes three times as long as loading the bundled models, and most checkpoints do not need it: a
folder with config.json, tokenizer.json and safetensors is read as it is. All the rest (downloads, other tokenizers,
pickled weights, arguments for the loading) goes through `from_pretrained`. Both give the same numbers.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from tokenizers import Tokenizer

from haystack_integrations.common.bloomz.bloom import (
    REQUIRED,
    BloomBody,
    BloomConfiguration,
    BloomWithHead,
    weight_shapes,
)
from haystack_integrations.common.bloomz.mapped_tensors import mapped_tensors

Task = Literal["embed", "rank"]

# Keys of tokenizer_config.json that change nothing in how a tokenizer of these classes reads a text.
_PLAIN_CLASSES = {"TokenizersBackend", "PreTrainedTokenizerFast", "BloomTokenizerFast", "BloomTokenizer"}
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_HARMLESS = {*_SPECIAL, "tokenizer_class", "backend", "padding_side", "model_max_length", "name_or_path"}
_HARMLESS |= {"special_tokens_map_file", "is_local", "local_files_only", "clean_up_tokenization_spaces"}


class TokenizerFacts(NamedTuple):
    """A tokenizer of `tokenizers`, and its end-of-text token where it names one."""

    tokenizer: Tokenizer
    eos_token_id: int | None


class LoadedWeights(NamedTuple):
    """A model (None if weights are missing), the weights that it lacks, and those that the files have beyond it."""

    model: Any
    missing: list[str]
    unexpected: list[str]


class CheckpointSource(Protocol):
    """Configuration, tokenizer and weights of one checkpoint."""

    @property
    def folder(self) -> Path | None:
        """Where the files are, if known."""

    def config(self) -> Any:  # noqa: ANN401
        """Return the configuration."""

    def tokenizer(self) -> TokenizerFacts:
        """Return the tokenizer."""

    def weights(self, task: Task, config: Any, dtype: torch.dtype | None) -> LoadedWeights:  # noqa: ANN401
        """Return the weights in a dtype; None: as they are stored."""


class PlainFiles:
    """A folder that is read without transformers."""

    def __init__(self, folder: Path) -> None:
        """Read the three small files.

        :param folder: of the checkpoint.
        :raises OSError: if one is not there.
        :raises ValueError: if one is not JSON.
        """
        self.folder = folder
        self._config = json.loads((folder / "config.json").read_bytes())
        self._settings = json.loads((folder / "tokenizer_config.json").read_bytes())
        self._tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        index = folder / "model.safetensors.index.json"
        shards = json.loads(index.read_bytes())["weight_map"].values() if index.exists() else ["model.safetensors"]
        self._files = [folder / name for name in sorted(set(shards))]

    def is_plain(self) -> bool:
        """Whether reading the files as they are gives what transformers would give."""
        config, settings = self._config, self._settings
        known = {token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special}
        named = {settings[name] for name in _SPECIAL if settings.get(name) is not None}
        return (
            config.get("model_type") == "bloom"
            and all(isinstance(config.get(name), int) for name in REQUIRED)
            and not {"quantization_config", "n_embed"} & set(config)
            and settings.get("tokenizer_class") in _PLAIN_CLASSES
            and set(settings) <= _HARMLESS
            and named <= known
            and self._tokenizer.post_processor is not None
            and all(file.exists() for file in self._files)
            and not any((self.folder / name).exists() for name in ("adapter_config.json", "special_tokens_map.json"))
        )

    def config(self) -> BloomConfiguration:
        """Return the configuration, with Bloom's defaults."""
        return BloomConfiguration(**self._config)

    def tokenizer(self) -> TokenizerFacts:
        """Return the tokenizer."""
        eos = self._settings.get("eos_token")
        return TokenizerFacts(self._tokenizer, None if eos is None else self._tokenizer.token_to_id(eos))

    def weights(self, task: Task, config: BloomConfiguration, dtype: torch.dtype | None) -> LoadedWeights:
        """Return the weights, mapped from their files where the dtype is theirs.

        :param task: "rank" has a head.
        :param config: of `config`.
        :param dtype: None: as they are stored.
        :returns: model, missing and unexpected weights.
        :raises ValueError: if a weight has another shape than the configuration says.
        """
        tensors = {
            name.removeprefix("transformer."): tensor.to(dtype or tensor.dtype)
            for file in self._files
            for name, tensor in mapped_tensors(file)
        }
        shapes = weight_shapes(config, head=task == "rank")
        wrong = [name for name in shapes if name in tensors and tensors[name].shape != shapes[name]]
        if wrong:
            got = tuple(tensors[wrong[0]].shape)
            raise ValueError(f"{wrong[0]} has the shape {got}, but config.json says {shapes[wrong[0]]}")
        missing, unexpected = sorted(set(shapes) - set(tensors)), sorted(set(tensors) - set(shapes))
        if missing:
            return LoadedWeights(None, missing, unexpected)
        return LoadedWeights((BloomWithHead if task == "rank" else BloomBody)(config, tensors), [], unexpected)


class HuggingFaceFiles:
    """Whatever `from_pretrained` loads."""

    def __init__(self, source: str, where: dict[str, Any], kwargs: dict[str, dict[str, Any]], progress: bool) -> None:
        """Keep what to ask for.

        :param source: folder or name on the Hub.
        :param where: revision, token and the like, which come last: a caller's arguments cannot undo them.
        :param kwargs: the caller's arguments, for "config", "tokenizer" and "model".
        :param progress: show the bar of transformers while it loads.
        """
        self.folder = Path(source) if os.path.isdir(source) else None
        self._source, self._where, self._kwargs, self._progress = source, where, kwargs, progress

    def config(self) -> Any:  # noqa: ANN401
        """Return a `PreTrainedConfig`."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._source, **{**self._kwargs["config"], **self._where})

    def tokenizer(self) -> TokenizerFacts:
        """Return the tokenizer under transformers' own.

        :returns: a copy of it, and its end-of-text token.
        :raises ValueError: if there is none.
        """
        from transformers import AutoTokenizer

        wrapper = AutoTokenizer.from_pretrained(self._source, **{**self._kwargs["tokenizer"], **self._where})
        if not getattr(wrapper, "is_fast", False):
            raise ValueError("it has no fast tokenizer: a tokenizer.json is needed")
        # A copy of our own, never changed once it is in use: "Already borrowed" comes from changes.
        return TokenizerFacts(Tokenizer.from_str(wrapper.backend_tokenizer.to_str()), wrapper.eos_token_id)

    def weights(self, task: Task, config: Any, dtype: torch.dtype | None) -> LoadedWeights:  # noqa: ANN401
        """Return the weights.

        :param task: "embed" for a `BloomModel`, "rank" for a `BloomForSequenceClassification`.
        :param config: of `config`.
        :param dtype: None: as the checkpoint says.
        :returns: model, missing and unexpected weights.
        """
        from transformers import BloomForSequenceClassification, BloomModel

        architecture = BloomForSequenceClassification if task == "rank" else BloomModel
        # weights_only comes last: a pickle that runs code is never loaded, whatever the caller passes.
        options = {**self._kwargs["model"], **self._where, "config": config, "dtype": dtype or "auto"}
        with _loading_bar(self._progress):
            model, report = architecture.from_pretrained(
                self._source, **{**options, "weights_only": True}, output_loading_info=True
            )
        return LoadedWeights(model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"]))


def plain_files(source: str, revision: str | None, local_files_only: bool) -> PlainFiles | None:
    """Return the files of a checkpoint that can be read without transformers.

    :param source: folder, or name on the Hub: of one that is in its cache, if the Hub is not to be asked.
    :param revision: branch, tag or commit on the Hub.
    :param local_files_only: never ask the Hub.
    :returns: None if transformers is needed, for the files or for the message that says what is wrong with them.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _cached_folder(source, revision) if local_files_only or _offline() else folder
    try:
        files = PlainFiles(folder)
        return files if files.is_plain() else None
    except Exception:  # tokenizers raises the base class itself; transformers says what is wrong
        return None


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _cached_folder(name: str, revision: str | None) -> Path:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else Path(name)


@contextmanager
def _loading_bar(shown: bool) -> Iterator[None]:
    """Hide the bar that transformers shows while it loads; those of downloads, which last, are left alone."""
    from transformers.utils import logging

    set_hook = getattr(logging, "set_tqdm_hook", None)  # not in the first releases of transformers 5
    if shown or set_hook is None:
        yield
        return
    before = set_hook(lambda bar, args, options: bar(*args, **{**options, "disable": True}))
    try:
        yield
    finally:
        set_hook(before)
