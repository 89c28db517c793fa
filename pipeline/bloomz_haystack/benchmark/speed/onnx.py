"""A plain Bloom -> its own forward on ONNX Runtime, one text a call, or the reason why it cannot be had here."""

import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from bloomz_haystack.benchmark.speed.harness import Missing, Way
from haystack_integrations.common.bloomz.batches import Vectors

NAME = "HF forward on ONNX Runtime, one by one"


class _LastState(nn.Module):
    """What is exported: token ids (1, L) -> last hidden state (1, H), without a cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]


def onnx_way(model: PreTrainedModel, folder: str) -> Way | Missing:
    """Export the model and open it, on as many threads as torch has.

    :param model: Hugging Face's own, in float32 on a CPU.
    :param folder: where its tokenizer is.
    :returns: the way; where something is missing or the export fails, the reason.
    """
    absent = [name for name in ("onnx", "onnxruntime") if not find_spec(name)]
    if absent:
        return Missing(NAME, f"pip install {' '.join(absent)}")
    if model.device.type != "cpu":
        return Missing(NAME, "its GPU build is another package")
    try:
        session = _session(model)
    except Exception as error:  # exporter and runtime raise of every kind: a row that is missing must not end the run
        return Missing(NAME, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(texts: Sequence[str]) -> Vectors:
        rows = [session.run(None, {"ids": tokenizer(text, return_tensors="np")["input_ids"]})[0] for text in texts]
        return unit_rows(np.concatenate(rows))

    return Way(NAME, encode)


def _session(model: PreTrainedModel) -> Any:  # noqa: ANN401
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="bloomz-onnx-") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one, and says so
        path = str(Path(name, "bloom.onnx"))
        ids = torch.arange(4, 12)[None]
        lengths = {"ids": {1: "length"}}
        torch.onnx.export(_LastState(model), (ids,), path, dynamo=False, dynamic_axes=lengths, input_names=["ids"])
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def unit_rows(vectors: Vectors) -> Vectors:
    """Divide each row by its length.

    :param vectors: (B, H).
    :returns: (B, H), each row of length one.
    """
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
