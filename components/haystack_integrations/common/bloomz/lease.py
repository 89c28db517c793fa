"""A component's hold on an engine: loaded at first use, weights shared, given back by ``close``, loaded again later.

Enters: the load parameters, as attributes of the component. Leaves: an ``Encoder`` or a ``Scorer``. Knows of Haystack
only that a device can name itself and a secret can be read. Importing this file does not import transformers.
"""

import asyncio
import inspect
import os
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from haystack_integrations.common.bloomz.forking import ForkSafeLock
from haystack_integrations.common.bloomz.int8 import Precision, check_precision

if TYPE_CHECKING:
    from haystack_integrations.common.bloomz.checkpoint import Checkpoint, Task
    from haystack_integrations.common.bloomz.encoder import Encoder
    from haystack_integrations.common.bloomz.scorer import Scorer

Engine = TypeVar("Engine", "Encoder", "Scorer")


class Device(Protocol):
    """What is needed of a ``ComponentDevice``."""

    @property
    def has_multiple_devices(self) -> bool:
        """Whether it is a map of devices."""
        ...

    def to_torch_str(self) -> str:
        """Name it as torch does."""
        ...


class Token(Protocol):
    """What is needed of a ``Secret``."""

    def resolve_value(self) -> Any:  # noqa: ANN401
        """Read it."""
        ...


class EngineHolder(Generic[Engine]):
    """What the Bloomz components have in common; a subclass stores its parameters, then calls ``_prepare``."""

    model: str
    device: Device | None
    token: Token | None
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
        """Give the model back; its memory is freed when the last user has. A later ``run`` loads it again."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is None:
            return
        from haystack_integrations.common.bloomz.checkpoint import (
            close_checkpoint,  # after the look: it imports transformers
        )

        on_cuda = engine.checkpoint.placement.device.type == "cuda"
        close_checkpoint(engine.checkpoint)
        del engine  # before the cache is emptied, else the weights are still in use
        if on_cuda:
            torch.cuda.empty_cache()

    def stats(self) -> dict[str, Any]:
        """Return what is worth knowing of the loaded model.

        :returns: with int8, ``kernels``: for each shape of layer, as "1024 -> 4096", the ``kernel`` that computes it
            and the ``milliseconds`` that each way took when the model was loaded. Empty without, and before that.
        """
        engine = self._engine
        kernels = engine.checkpoint.kernels if engine is not None else {}
        return {"kernels": {shape: choice._asdict() for shape, choice in kernels.items()}} if kernels else {}

    def _warm_engine(self) -> Engine:
        engine = self._engine
        if engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._build()
                engine = self._engine
        return engine

    def _open_checkpoint(self, task: "Task") -> "Checkpoint":
        from haystack_integrations.common.bloomz.checkpoint import LoadSettings, open_checkpoint

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

    def _prepare(self) -> None:
        """Refuse at the door what would fail at the first run, and make the lock.

        :raises TypeError: if the model is neither a string nor a path, or device or token is a bare string.
        :raises ValueError: if the device is a map of devices, a number of tokens is not positive, or the precision is
            not known.
        """
        self._lock = ForkSafeLock()
        if not isinstance(self.model, str | os.PathLike):
            raise TypeError(f"model must be a name or a folder, but got {self.model!r}: use a string or a pathlib.Path")
        self.model = os.fspath(self.model)
        if self.device is not None and not hasattr(self.device, "to_torch_str"):
            raise TypeError(
                f"device must be a ComponentDevice or None, but got {self.device!r}: "
                "use ComponentDevice.from_str('cpu') or ComponentDevice.from_str('cuda:0')"
            )
        if self.device is not None and self.device.has_multiple_devices:
            raise ValueError(
                "device must be a single device, but got a device map: build one component for each device"
            )
        if self.token is not None and not hasattr(self.token, "resolve_value"):
            raise TypeError("token must be a Secret or None, but got a bare value: use Secret.from_env_var('HF_TOKEN')")
        for name in ("max_length", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be > 0, but got {value}")
        check_precision(self.precision)

    def _init_parameters(self) -> dict[str, Any]:
        """Read back every parameter of ``__init__``, in types that YAML can write."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, torch.dtype | Path) else value
