"""The base of the Bloomz components, and the one file of the engine that knows Haystack.

Enters: a component's parameters. Leaves: its engine, an `Encoder` or a `Scorer`, loaded at first use, its weights
shared with the components that load the same, freed by `close`, loaded again later; and the text that a model reads of
a document.
"""

import asyncio
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import torch
from haystack import Document, default_from_dict, default_to_dict
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.common.bloomz.arguments import check_count, init_parameters
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    LoadSettings,
    close_checkpoint,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.forking import ForkSafeLock
from haystack_integrations.common.bloomz.int8 import Precision, check_precision
from haystack_integrations.common.bloomz.plain_text import plain_text
from haystack_integrations.common.bloomz.sources import Task
from haystack_integrations.common.bloomz.tokens import tokenize

if TYPE_CHECKING:
    from haystack_integrations.common.bloomz.encoder import Encoder
    from haystack_integrations.common.bloomz.scorer import Scorer

Engine = TypeVar("Engine", "Encoder", "Scorer")


class BloomzComponent(Generic[Engine]):
    """What the Bloomz components have in common; a subclass stores its parameters, then calls `_prepare`."""

    model: str
    device: ComponentDevice | None
    token: Secret | None
    revision: str | None
    local_files_only: bool
    model_kwargs: dict[str, Any] | None
    tokenizer_kwargs: dict[str, Any] | None
    config_kwargs: dict[str, Any] | None
    max_length: int | None
    batch_tokens: int = 2048
    precision: Precision | None
    progress_bar: bool

    _engine: Engine | None = None

    @abstractmethod
    def _build(self) -> Engine:
        """Open the checkpoint and build the engine."""

    def warm_up(self) -> None:
        """Load the model, once; a component with the same load parameters shares its weights."""
        self._warm_engine()

    async def warm_up_async(self) -> None:
        """Load the model in a thread, so that the event loop does not wait for it."""
        await asyncio.to_thread(self.warm_up)

    def close(self) -> None:
        """Return the model back; its memory is freed when the last user has. A later `run` loads it again."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is None:
            return
        on_cuda = engine.checkpoint.placement.device.type == "cuda"
        close_checkpoint(engine.checkpoint)
        del engine  # before the cache is emptied, else the weights are still in use
        if on_cuda:
            torch.cuda.empty_cache()

    def stats(self) -> dict[str, Any]:
        """Return what is worth knowing of the loaded model.

        :returns: with int8, `kernels`: for each shape of layer, as "1024 -> 4096", the `kernel` that computes it
            and the `milliseconds` of this processor that each way took when the model was loaded. Empty without, and
            before that.
        """
        engine = self._engine
        kernels = engine.checkpoint.kernels if engine is not None else {}
        return {"kernels": {shape: choice._asdict() for shape, choice in kernels.items()}} if kernels else {}

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, uncut; loads the model if needed.

        :param texts: any, without prefixes and suffixes.
        :returns: a number per text; 1 for an empty one.
        """
        checkpoint = self._warm_engine().checkpoint
        tokens = tokenize(checkpoint.tokenizer, texts, max_length=2**31, empty_token=checkpoint.empty_token)
        return [len(ids) for ids in tokens.token_ids]

    def beginning(self, text: str, most_tokens: int) -> str:
        """Return as much of a text as has so many tokens; loads the model if needed.

        :param text: valid Unicode.
        :param most_tokens: of it to keep.
        :returns: its beginning.
        """
        offsets = self._warm_engine().checkpoint.tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= most_tokens else text[: offsets[most_tokens - 1][1]]

    def _warm_engine(self) -> Engine:
        engine = self._engine
        if engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._build()
                engine = self._engine
        return engine

    def _open_checkpoint(self, task: Task) -> Checkpoint:
        return open_checkpoint(
            self.model,
            task,
            device=self.device.to_torch_str() if self.device is not None else None,
            token=self.token.resolve_value() if self.token is not None else None,
            settings=LoadSettings(
                revision=self.revision,
                local_files_only=self.local_files_only,
                model_kwargs=self.model_kwargs,
                tokenizer_kwargs=self.tokenizer_kwargs,
                config_kwargs=self.config_kwargs,
                precision=self.precision,
            ),
            progress_bar=self.progress_bar,
        )

    def to_dict(self) -> dict[str, Any]:
        """Serialize the component.

        :returns: a dictionary that `from_dict` and YAML understand.
        """
        return default_to_dict(self, **init_parameters(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build the component that `to_dict` described.

        :param data: from `to_dict`.
        :returns: the component.
        """
        return default_from_dict(cls, data)

    def _prepare(self) -> None:
        """Validate the parameters and create the lock.

        :raises TypeError: if the model is neither a string nor a path, or device or token is a bare string.
        :raises ValueError: if the device is a map of devices, a number of tokens is not positive, or the precision is
            not known.
        """
        self._lock = ForkSafeLock()
        if not isinstance(self.model, str | os.PathLike):
            raise TypeError(f"model must be a name or a folder, but got {self.model!r}: use a string or a pathlib.Path")
        self.model = os.fspath(self.model)
        if self.device is not None and not isinstance(self.device, ComponentDevice):
            raise TypeError(
                f"device must be a ComponentDevice or None, but got {self.device!r}: "
                "use ComponentDevice.from_str('cpu') or ComponentDevice.from_str('cuda:0')"
            )
        if self.device is not None and self.device.has_multiple_devices:
            raise ValueError(
                "device must be a single device, but got a device map: build one component for each device"
            )
        if self.token is not None and not isinstance(self.token, Secret):
            raise TypeError("token must be a Secret or None, but got a bare value: use Secret.from_env_var('HF_TOKEN')")
        if self.max_length is not None:
            check_count("max_length", self.max_length)
        check_count("batch_tokens", self.batch_tokens)
        check_precision(self.precision)


def passage_text(document: Document, fields: Sequence[str] | None, separator: str) -> str:
    """Return the text that the models read of a document: chosen metadata, then the content, in plain spelling.

    :param document: no content counts as "".
    :param fields: which metadata, in this order; None values are skipped, 0 and False are kept.
    :param separator: stands between the parts.
    :returns: the text.

    >>> doc = Document(content="Une île.", meta={"titre": "Bréhat", "page": 0, "note": None})
    >>> passage_text(doc, ["titre", "page", "note"], " | ")
    'Bréhat | 0 | Une île.'
    """
    chosen = [str(document.meta[field]) for field in fields or [] if document.meta.get(field) is not None]
    return plain_text(separator.join([*chosen, document.content or ""]))
