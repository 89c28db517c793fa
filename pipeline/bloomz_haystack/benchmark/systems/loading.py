"""Files of a model -> weights and tokenizer in memory, and texts -> padded batches: what text models and cross-encoders
have in common.

Code that comes with a model is never run, and a pickle only by torch's restricted reader.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bloomz_haystack.models.find import ModelFiles, ModelNotAvailable
from haystack_integrations.common.bloomz.checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadSettings,
    Placement,
    Task,
    open_checkpoint,
)
from haystack_integrations.common.bloomz.int8 import Precision

_NO_LIMIT = 1_000_000  # a tokenizer without a limit of its own says 10^30


def open_bloom(files: ModelFiles, task: Task, placement: Placement, precision: Precision | None = None) -> Checkpoint:
    """Open a Bloom that is on this disk.

    :param files: its folder.
    :param task: "embed" or "rank".
    :param placement: where, and in what dtype.
    :param precision: "int8" for linears of 8 bits.
    :returns: the checkpoint; give it back with ``close_checkpoint``.
    :raises ModelNotAvailable: if a file of it cannot be read.
    :raises CheckpointError: if it is not what the task needs.
    """
    dtype = None if precision else {"dtype": placement.dtype}
    settings = LoadSettings(local_files_only=True, model_kwargs=dtype, precision=precision)
    try:
        return open_checkpoint(str(files.folder), task, device=str(placement.device), settings=settings)
    except CheckpointError as error:
        if error.__cause__ is None:  # the engine read every file, and refuses what it read
            raise
        raise ModelNotAvailable(files.name, f"{type(error.__cause__).__name__}: {error.__cause__}") from error


def load_transformers(files: ModelFiles, architecture: Any, placement: Placement) -> tuple[Any, Any]:  # noqa: ANN401
    """Load a tokenizer and a model that are on this disk.

    :param files: its folder.
    :param architecture: an ``Auto`` class of transformers.
    :param placement: where, and in what dtype.
    :returns: tokenizer and model, in evaluation mode.
    :raises ModelNotAvailable: if a file of it cannot be read.
    :raises ValueError: if weights are missing: they would be random.
    """
    from transformers import AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, **options)
        model, report = architecture.from_pretrained(
            files.folder, dtype=placement.dtype, weights_only=True, output_loading_info=True, **options
        )
    except Exception as error:  # file system, JSON, safetensors and pickle errors share no base class
        raise ModelNotAvailable(files.name, f"{type(error).__name__}: {error}") from error
    # A body without a pooler is complete: the pooler's output is never read here.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(
            f"{files.name} lacks {len(missing)} weights of a {type(model).__name__} (first: {missing[0]}): "
            "is it a model of that kind, and complete?"
        )
    return tokenizer, model.to(placement.device).eval().requires_grad_(False)


def token_limit(tokenizer: Any, config: Any) -> int:  # noqa: ANN401
    """Most tokens a model reads, special tokens counted.

    :param tokenizer: of transformers.
    :param config: of the model.
    :returns: the tokenizer's limit, or that of the position table.
    """
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "seq_length", None) or 512
    if config.model_type in ("camembert", "roberta", "xlm-roberta", "mpnet"):
        positions -= (config.pad_token_id or 0) + 1  # their positions are counted from behind the padding's
    return min(positions, tokenizer.model_max_length if tokenizer.model_max_length < _NO_LIMIT else positions)


def padded_batches(
    tokenizer: Any,  # noqa: ANN401
    tokens: Any,  # noqa: ANN401
    batch_tokens: int,
) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
    """Group texts of similar length, longest first, and pad each group to its longest.

    :param tokenizer: of transformers.
    :param tokens: its encoding of B texts, not padded.
    :param batch_tokens: budget of a batch, padding counted; one text longer than it gets a batch of its own.
    :yields: positions (b,) and the padded batch of tensors.
    """
    lengths = np.asarray([len(ids) for ids in tokens["input_ids"]], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, batch_tokens // max(1, int(lengths[order[start]])))
        places = order[start:stop]
        rows = {key: [values[i] for i in places] for key, values in tokens.items()}
        yield places, tokenizer.pad(rows, return_tensors="pt")
        start = stop
