"""Name of a retriever -> what is known of it without opening it, as the fields of mteb's `ModelMeta`.

What no card says (date and revision of the published ones, what they take of memory) is left out: mteb reads None.
The first editions (`cmarkea/bloomz-560m-retriever`, `-3b-retriever`) are not here: their vectors are compared by L2 as
they come, and `MtebRetriever` gives unit vectors.
"""

import math
from typing import Any

from bloomz_haystack.models.find import ModelFiles, find_model
from haystack_integrations.common.bloomz.checkpoint import BUNDLED_RETRIEVER

OWNER = "bloomz-haystack"  # of bundled models and folders: mteb wants owner/name
REPOSITORY = "https://github.com/bloomz-haystack/bloomz-haystack"
RECIPE = f"{REPOSITORY}/tree/main/pipeline/bloomz_haystack/training"
BLOOM_TOKENS = 250_880

OF_ALL: dict[str, Any] = {
    "revision": None,
    "release_date": None,
    "memory_usage_mb": None,
    "languages": ["fra-Latn", "eng-Latn"],
    "max_tokens": 2048,
    "similarity_fn_name": "cosine",
    "framework": ["PyTorch"],
    "use_instructions": False,
    "open_weights": True,
    "license": None,
    "reference": None,
    "public_training_code": None,
    "public_training_data": None,
    "training_datasets": None,
}
OF_PUBLISHED: dict[str, Any] = OF_ALL | {
    "license": "https://huggingface.co/spaces/bigscience/license",  # bigscience-bloom-rail-1.0, not in mteb's list
    "public_training_data": "https://huggingface.co/datasets/cmarkea/mmarco-contrastive",
    "training_datasets": {"MSMARCO", "MMarcoRetrievalMultilingual"},
}
KNOWN_RETRIEVERS: dict[str, dict[str, Any]] = {
    "cmarkea/bloomz-560m-retriever-v2": OF_PUBLISHED
    | {
        "n_parameters": 559_214_592,
        "n_embedding_parameters": BLOOM_TOKENS * 1024,
        "embed_dim": 1024,
        "reference": "https://huggingface.co/cmarkea/bloomz-560m-retriever-v2",
        "adapted_from": "cmarkea/bloomz-560m-dpo-chat",
    },
    "cmarkea/bloomz-3b-retriever-v2": OF_PUBLISHED
    | {
        "n_parameters": 3_002_557_440,
        "n_embedding_parameters": BLOOM_TOKENS * 2560,
        "embed_dim": 2560,
        "reference": "https://huggingface.co/cmarkea/bloomz-3b-retriever-v2",
        "adapted_from": "cmarkea/bloomz-3b-dpo-chat",
    },
    f"{OWNER}/{BUNDLED_RETRIEVER}": OF_ALL
    | {
        "license": "cc-by-sa-4.0",
        "release_date": "2026-11-27",
        "reference": REPOSITORY,
        "public_training_code": RECIPE,
        "public_training_data": True,
        "training_datasets": {"Tatoeba", "NTREXBitextMining", "FloresBitextMining", "MedicalQARetrieval"},
    },
}


def retriever_facts(name: str) -> dict[str, Any]:
    """Return the fields that are known of a retriever.

    :param name: one of `KNOWN_RETRIEVERS`.
    :returns: by the names of mteb's `ModelMeta`; numbers of a bundled model come from its files.
    """
    bundled = name.removeprefix(f"{OWNER}/")
    return KNOWN_RETRIEVERS[name] if bundled == name else KNOWN_RETRIEVERS[name] | _counts(find_model(bundled))


def _counts(files: ModelFiles) -> dict[str, Any]:
    from safetensors import safe_open

    size = 0
    for path in files.weights:
        with safe_open(path, "np") as weights:
            size += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118  # no dict
    width, tokens = files.config["hidden_size"], files.config["vocab_size"]
    taken = sum(path.stat().st_size for path in files.weights) / 2**20
    return {
        "revision": files.fingerprint,
        "n_parameters": size,
        "n_embedding_parameters": tokens * width,
        "embed_dim": width,
        "memory_usage_mb": round(taken, 1),
    }
