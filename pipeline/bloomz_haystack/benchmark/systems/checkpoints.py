"""A model's folder -> its weights in memory: a Bloom by our engine, any other model by sentence-transformers.

Code that comes with a model is never run, and a pickle only by torch's restricted reader.
"""

import logging
from typing import Any

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

TOKENS_A_TEXT = 128  # of a baseline: its batches are counted in texts
WINDOW_BATCHES = 4  # of a baseline: handed over together, sorted by length there


def open_bloom(files: ModelFiles, task: Task, placement: Placement, precision: Precision | None = None) -> Checkpoint:
    """Return a Bloom that is on this disk, opened.

    :param files: its folder.
    :param task: "embed" or "rank".
    :param placement: where, and in what dtype.
    :param precision: "int8" for linears of 8 bits.
    :returns: the checkpoint; give it back with `close_checkpoint`.
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


def open_baseline(files: ModelFiles, kind: str, placement: Placement) -> Any:  # noqa: ANN401
    """Return a model of sentence-transformers that is on this disk, opened.

    :param files: its folder.
    :param kind: "SentenceTransformer" or "CrossEncoder".
    :param placement: where, and in what dtype.
    :returns: an instance of it.
    :raises ModelNotAvailable: if a file of it cannot be read, or it needs code of its own.
    :raises ValueError: if weights are missing: they would be random.
    :raises ImportError: without sentence-transformers.
    """
    architecture = getattr(_sentence_transformers(), kind)
    try:
        model = architecture(
            str(files.folder),
            device=str(placement.device),
            local_files_only=True,
            model_kwargs={"dtype": placement.dtype},
        )
        # Once more, for the list of missing weights, which sentence-transformers keeps to itself.
        body = type(model[0].model)
        _, report = body.from_pretrained(files.folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # file system, JSON, safetensors and pickle errors share no base class
        raise ModelNotAvailable(files.name, f"{type(error).__name__}: {error}") from error
    # A body without a pooler is complete: the pooler's output is never read here.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(
            f"{files.name} lacks {len(missing)} weights of a {body.__name__} (first: {missing[0]}): "
            "is it a model of that kind, and complete?"
        )
    return model


def _sentence_transformers() -> Any:  # noqa: ANN401
    try:
        import sentence_transformers
    except ImportError as error:
        raise ImportError(
            'sentence-transformers is needed for models other than Bloom: pip install "bloomz-haystack[benchmark]"'
        ) from error
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)  # it tells which pooling it assumes
    return sentence_transformers
