"""Kept prefixes <-> a folder: one file a context, memory-mapped when read, written whole or not at all.

A file is named after the hash of the weights and of the tokens that it was made from, so several checkpoints may share
a folder, and changed weights never meet what the old ones left. Several processes may share it too: a file appears by
one rename, is never written to again, and stays readable where it is mapped when it is removed. Knows no budget.
"""

import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from haystack_integrations.common.bloomz.int8 import Int8Linear
from haystack_integrations.common.bloomz.prefix_cache.states import PrefixShape, PrefixStates
from haystack_integrations.common.bloomz.tokens import TokenIds
from haystack_integrations.common.bloomz.whole_files import replacing

logger = logging.getLogger(__name__)

FILE_OVERHEAD = 1024  # bytes of a file beyond its tensors, at most
_FORMAT = "1"  # to be raised when the layout of the states changes
_SUFFIX, _PART = ".prefix", ".part"
_ABANDONED_SECONDS = 600  # a part this old has lost its writer, which needs less than a second


class PrefixFolder:
    """The files of one folder."""

    def __init__(self, path: str | Path) -> None:
        """Make the folder if need be.

        :param path: of the folder.
        :raises ValueError: if it is not a folder, or cannot be made.
        """
        self.path = Path(path).expanduser()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"prefix_cache_folder must be a folder that can be made or read, but got {str(path)!r} "
                f"({error.strerror or error}): choose another"
            ) from error

    def scan(self) -> dict[str, int]:
        """List what is there, and sweep up what killed writers left.

        :returns: bytes of each key's file, the longest unused first.
        """
        found: list[tuple[float, str, int]] = []
        with os.scandir(self.path) as files:
            for file in files:
                with suppress(OSError):  # another process may remove it meanwhile
                    facts = file.stat()
                    if file.name.endswith(_SUFFIX):
                        found.append((facts.st_mtime, file.name.removesuffix(_SUFFIX), facts.st_size))
                    elif file.name.endswith(_PART) and time.time() - facts.st_mtime > _ABANDONED_SECONDS:
                        os.unlink(file)
        return {key: size for _, key, size in sorted(found)}

    def size(self, key: str) -> int | None:
        """Look for one key.

        :param key: of `prefix_key`.
        :returns: bytes of its file, or None where there is none.
        """
        try:
            return self._file(key).stat().st_size
        except OSError:
            return None

    def load(self, key: str, *, verify: bool = True) -> PrefixStates | None:
        """Map a file into memory.

        :param key: of `prefix_key`.
        :param verify: read it once and compare its checksum.
        :returns: the states, or None if the file is gone or torn; a torn one is removed.
        """
        path = self._file(key)
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            states = PrefixStates(**tensors)
            if facts.get("key") == key and (not verify or facts.get("crc32") == _checksum(states)):
                return states
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, TypeError):
            pass  # reported below, as any torn file
        logger.warning("%s is torn or was changed: its context is computed again", path.name)
        self.remove(key)
        return None

    def save(self, key: str, states: PrefixStates) -> PrefixStates:
        """Write a file, which appears when it is whole.

        :param key: of `prefix_key`.
        :param states: on any device.
        :returns: the same states, mapped from the file.
        :raises OSError: if the disk is full or the folder cannot be written to.
        """
        tensors = {name: tensor.cpu() for name, tensor in states._asdict().items() if tensor is not None}
        states = PrefixStates(**tensors)
        content = save(tensors, {"key": key, "crc32": _checksum(states)})
        with replacing(self._file(key), durable=False) as part:  # a torn one is seen by its checksum, and made again
            part.write_bytes(content)
        return self.load(key, verify=False) or states

    def touch(self, key: str) -> None:
        """Note that a file was used: after a restart, the longest unused goes first.

        :param key: of `prefix_key`.
        """
        with suppress(OSError):
            os.utime(self._file(key))

    def remove(self, key: str) -> None:
        """Remove a file; where it is mapped it stays readable.

        :param key: of `prefix_key`.
        """
        with suppress(OSError):
            self._file(key).unlink()

    def _file(self, key: str) -> Path:
        return self.path / (key + _SUFFIX)


def prefix_key(fingerprint: str, token_ids: TokenIds) -> str:
    """Name a context: the states depend on the weights and the token ids, and on nothing else.

    :param fingerprint: of the weights; "" where all keys are of one checkpoint.
    :param token_ids: of the context, as much as any question leaves room for.
    :returns: 64 hexadecimal digits.
    """
    return hashlib.sha256(fingerprint.encode() + b"\0" + np.ascontiguousarray(token_ids).tobytes()).hexdigest()


def weights_fingerprint(body: nn.Module, shape: PrefixShape, facts: Sequence[Any] = ()) -> str:
    """Hash the weights themselves: a folder or a name may hold others tomorrow.

    :param body: the model under its head; about 1 s a gigabyte.
    :param shape: of what is kept.
    :param facts: what else the numbers depend on.
    :returns: 64 hexadecimal digits.
    """
    config = body.config.to_dict()  # type: ignore[operator, union-attr]
    known = ("layer_norm_epsilon", "apply_residual_connection_post_layernorm")
    head = [_FORMAT, shape, [config.get(name) for name in known], list(facts)]
    digest, numbers = hashlib.sha256(json.dumps(head, default=str).encode()), 0
    for name, tensor in _tensors(body):
        dense = tensor.detach().to_dense() if tensor.is_mkldnn else tensor.detach()
        digest.update(f"{name} {dense.dtype} {tuple(dense.shape)}".encode())
        digest.update(_bytes(dense.cpu()))
        numbers += dense.numel()
    hidden = config["hidden_size"]
    assert numbers > hidden * (config["vocab_size"] + 12 * hidden * config["n_layer"]), "some weights are out of sight"
    return digest.hexdigest()


def _tensors(body: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a model, those included that the engine has packed and `state_dict` does not show."""
    for place, module in body.named_modules():
        own = {**module._parameters, **module._buffers, **vars(module)}
        yield from ((f"{place}.{name}", own[name]) for name in sorted(own) if isinstance(own[name], torch.Tensor))
        if isinstance(module, Int8Linear):  # however its kernel packs them
            yield f"{place}.integers", module.integers()


def _checksum(states: PrefixStates) -> str:
    value = 0
    for tensor in states:
        if tensor is not None and tensor.numel():
            value = zlib.crc32(_bytes(tensor), value)
    return f"{value:08x}"


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
