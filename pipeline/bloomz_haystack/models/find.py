"""Model name -> a folder on this disk that holds its weights, and what identifies them.

Downloads what is not here yet; says in one line why a model cannot be had, without a long wait. Knows nothing of what
the model computes.
"""

import hashlib
import json
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from bloomz_haystack.files.provenance import sha256
from bloomz_haystack.models.hub_offline import stay_offline_if_unreachable
from haystack_integrations.common.bloomz.checkpoint import BUNDLED_RANKER, BUNDLED_RETRIEVER, resolve

BUNDLED = (BUNDLED_RETRIEVER, BUNDLED_RANKER)
ANSWER_SECONDS = 2.0  # the longest wait for the Hub to say what a model consists of
_SMALL_FILES = (".json", ".txt", ".model")  # configuration and tokenizers
_MODULES = re.compile(r"\d+_\w+/(config\.json|model\.safetensors|pytorch_model\.bin)")  # of sentence-transformers


class ModelNotAvailable(Exception):  # noqa: N818  # a fact that the table shows, not a mistake
    """Weights that cannot be had here: the row says so, and the rest of the table is computed."""

    def __init__(self, name: str, reason: str) -> None:
        """Keep both parts.

        :param name: the model.
        :param reason: why, in one line.
        """
        self.name, self.reason = name, " ".join(reason.split())[:300]
        super().__init__(f"{name} is not available here: {self.reason}")


class ModelFiles:
    """A model's folder."""

    def __init__(self, name: str, folder: Path, commit: str | None = None) -> None:
        """Keep the place.

        :param name: as asked for.
        :param folder: holds config.json, the tokenizer and the weights.
        :param commit: of the Hub; None for a folder of the user's.
        :raises ModelNotAvailable: if config.json or the weights are not there.
        """
        self.name, self.folder, self.commit = name, folder, commit
        self.config = self._read("config.json")
        if not isinstance(self.config.get("model_type"), str):
            raise ModelNotAvailable(name, f"{folder.name}/config.json names no model_type")
        if not self.weights:
            raise ModelNotAvailable(name, f"{folder.name} holds no weights: no .safetensors and no .bin file")

    @property
    def weights(self) -> list[Path]:
        """The weight files; pickles count only where there is no safetensors file."""
        return sorted(self.folder.glob("*.safetensors")) or sorted(self.folder.glob("pytorch_model*.bin"))

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the weights: the commit on the Hub, or a hash of configuration, tokenizer and weights."""
        if self.commit:
            return self.commit
        digest = hashlib.sha256()
        small = sorted(path for path in self.folder.glob("*") if path.suffix in _SMALL_FILES)
        modules = sorted(path for path in self.folder.glob("*/*") if _MODULES.fullmatch(_inside(self.folder, path)))
        for path in [*small, *self.weights, *modules]:
            digest.update(_inside(self.folder, path).encode() + bytes.fromhex(sha256(path)))
        return digest.hexdigest()

    @property
    def has_modules(self) -> bool:
        """Whether sentence-transformers saved it, with its own pooling."""
        return (self.folder / "modules.json").is_file()

    def _read(self, file: str) -> dict[str, Any]:
        try:
            values = json.loads((self.folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelNotAvailable(self.name, f"cannot read its {file}: {error}") from error
        if not isinstance(values, dict):
            raise ModelNotAvailable(self.name, f"its {file} is not a JSON object")
        return values


def find_model(name: str, revision: str | None = None, *, local_files_only: bool = False) -> ModelFiles:
    """Find a model on this disk, downloading it from the Hub if need be.

    :param name: bundled name, folder or Hub name.
    :param revision: of the Hub.
    :param local_files_only: never ask the Hub.
    :returns: its files.
    :raises ModelNotAvailable: if it is neither here nor on the Hub, the Hub does not answer, or access is refused.
    """
    folder = Path(resolve(name))
    if folder.is_dir():
        return ModelFiles(name, folder)
    offline = local_files_only
    if not offline and not os.environ.get("HF_HUB_OFFLINE"):
        stay_offline_if_unreachable([name], BUNDLED)  # one wait for all models: the answer stays in the environment
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON")
    folder = _downloaded(name, revision) if offline else _download(name, revision)
    return ModelFiles(name, folder, commit=folder.name)


def _inside(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _downloaded(name: str, revision: str | None) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        raise ModelNotAvailable(name, "no such folder, and not a name that the Hub could hold") from None
    if not isinstance(config, str):
        raise ModelNotAvailable(name, "not on this disk, and the Hugging Face Hub was not asked or does not answer")
    return Path(config).parent


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        # One request, not tried again: from_pretrained would try for 25 s before it gives up (measured).
        found = HfApi().model_info(name, revision=revision, timeout=ANSWER_SECONDS)
        names = _wanted([item.rfilename for item in found.siblings or []])
        return Path(snapshot_download(name, revision=found.sha, allow_patterns=names))
    except Exception as error:
        # The Hub's own errors and those of its HTTP client share no base class and come as paragraphs.
        try:
            return _downloaded(name, revision)
        except ModelNotAvailable:
            raise ModelNotAvailable(name, f"{type(error).__name__}: {error}") from error


def _wanted(names: list[str]) -> list[str]:
    """Which files of a repository are needed: not its ONNX, TensorFlow or pickled copies."""
    top = [name for name in names if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    weights = weights or [name for name in top if name.startswith("pytorch_model") and name.endswith(".bin")]
    small = [name for name in top if name.endswith(_SMALL_FILES)]
    return [*small, *weights, *(name for name in names if _MODULES.fullmatch(name))]
