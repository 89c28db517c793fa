"""Trained model -> checkpoint folder: weights, tokenizer, `training.json`, model card.

The folder loads with `AutoModel.from_pretrained` and with the components. Training continues in float32.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from bloomz_haystack.files.provenance import git_commit, package_version, sha256
from bloomz_haystack.training.config import TrainConfig, dump_config, portable_name
from bloomz_haystack.training.data.sources import TokenRows, files_of
from bloomz_haystack.training.run.card import model_card
from haystack_integrations.common.bloomz.whole_files import move_into_place

RECORD_FILE = "training.json"
PACKAGES = ("bloomz-haystack", "torch", "transformers", "tokenizers", "numpy")


def run_record(kind: str, config: TrainConfig, sources: Sequence[TokenRows]) -> dict[str, Any]:
    """Return what a run is made of, so that it can be repeated.

    :param kind: "retriever" or "ranker".
    :param config: of the run.
    :param sources: rows that were read.
    :returns: plain values: settings, data with SHA-256 and counts, git commit, versions.
    """
    return {
        "kind": kind,
        "settings": dump_config(config),
        "data": [_source_record(rows) for rows in sources],
        "git_commit": git_commit(),
        "versions": {name: package_version(name) for name in PACKAGES},
    }


def save_checkpoint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any], out: Path
) -> None:
    """Write the checkpoint in float16 or float8, adapters merged into the weights.

    Float8 is for storage: transformers reads it as the float32 of the config. Vectors (biases, layer norms) are small
    and stay in float16.

    :param model: as trained; not changed.
    :param tokenizer: its tokenizer.
    :param record: of the run, with `steps_done` and `validation`.
    :param out: the folder.
    :raises OSError: if the disk is full; the last checkpoint is kept.
    """
    matrices = getattr(torch, record["settings"]["run"]["weights"])
    weights = {
        name: weight.to(matrices if weight.dim() > 1 else torch.float16).contiguous()
        for name, weight in merged_weights(model).items()
    }
    disable_progress_bar()  # of the shards: it would stand in the middle of ours
    with torch.device("meta"):
        plain = type(model)(model.config)  # what adapters were injected into is no longer one
    plain.config.dtype = torch.float16 if matrices == torch.float16 else torch.float32
    part = out / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed while it saved
    part.mkdir()
    try:
        plain.save_pretrained(part, state_dict=weights)
    except SafetensorError as error:
        raise OSError(f"cannot write to {out} ({error}): make room, then resume with --resume") from None
    tokenizer.save_pretrained(part)
    (part / RECORD_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (part / "README.md").write_text(model_card(record, plain, out.name), encoding="utf-8")
    for file in part.iterdir():
        move_into_place(file, out / file.name)  # the last checkpoint stands whole until the next one does
    part.rmdir()


def merged_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the weights under their plain names, adapters merged.

    :param model: with or without adapters; not changed.
    :returns: name -> tensor, without gradients.
    """
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    weights = {}
    for name, weight in model.state_dict().items():
        owner, below, rest = name.partition(".base_layer.")
        if below:
            delta = adapted[owner].get_delta_weight("default") if rest == "weight" else 0
            weights[f"{owner}.{rest}"] = weight.detach() + delta
        elif not any(name.startswith(f"{adapter}.") for adapter in adapted):  # the adapter's own matrices
            weights[name] = weight.detach()
    return {name: weight.detach() for name, weight in weights.items()}


def _source_record(rows: TokenRows) -> dict[str, Any]:
    return {
        "path": portable_name(rows.source.path),
        "weight": rows.source.weight,
        "licence": rows.source.licence,
        "rows": len(rows.train),
        "held_out": len(rows.validation),
        "bad_rows": len(rows.bad),
        "sha256": {file.name: sha256(file) for file in files_of(Path(rows.source.path))},
    }
