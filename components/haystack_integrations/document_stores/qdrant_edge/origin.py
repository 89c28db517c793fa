"""Vectors -> the model that made them, compared with the one that made the store's.

An `Embedding` says where it comes from; a plain list does not, and passes. What the store knows stands in `store.json`.
"""

from collections.abc import Iterable, Mapping

from haystack_integrations.common.bloomz.identity import Embedding, ModelIdentity
from haystack_integrations.document_stores.qdrant_edge.shard import SharedShard
from haystack_integrations.document_stores.qdrant_edge.stored import count_points

MODEL_KEY, WEIGHTS_KEY = "model", "model_weights"  # in what the store remembers


def model_of(embeddings: Iterable[object]) -> ModelIdentity | None:
    """Return the model that made vectors, where they say it.

    :param embeddings: vectors or None.
    :returns: the model; None: not known.
    :raises ValueError: if they come from two models.
    """
    models = {item.model for item in embeddings if isinstance(item, Embedding) and item.model and item.model.weights}
    if len({model.weights for model in models}) > 1:
        raise ValueError(f"the embeddings come from several models ({_list(models)}), whose vectors cannot be compared")
    return min(models, default=None)


def check_model(shard: SharedShard, model: ModelIdentity | None) -> None:
    """Refuse vectors of another model than the store's.

    :param shard: the open shard.
    :param model: which made the vectors; None: not known, and let through.
    :raises ValueError: if the store's vectors were made by another.
    """
    check_same_model(shard.description.info, f"the store at {shard.folder}", model)


def check_same_model(info: Mapping[str, str], store: str, model: ModelIdentity | None) -> None:
    """Refuse vectors of another model than that of which a store keeps the name and the weights.

    :param info: what the store remembers.
    :param store: which it is, for the message.
    :param model: which made the vectors; None: not known, and let through.
    :raises ValueError: if the store's vectors were made by another.
    """
    kept = info.get(WEIGHTS_KEY)
    if model is None or kept is None or kept == model.weights:
        return
    if info.get(MODEL_KEY) == model.name:
        cause = f"other weights of {model.name} ({kept}, now {model.weights}): the model was changed in its place"
    else:
        cause = f"the model {info.get(MODEL_KEY)} ({kept}), and these come from {model.name} ({model.weights})"
    raise ValueError(
        f"the vectors in {store} were made by {cause}. Vectors of two models cannot be compared: use the model that "
        "made the store, or index the documents into a new store"
    )


def claim_model(shard: SharedShard, model: ModelIdentity | None) -> None:
    """Note the model of vectors that are about to be written, or refuse them.

    :param shard: the open shard, held for writing.
    :param model: which made the vectors; None: not known.
    :raises ValueError: if the store's vectors were made by another.
    """
    info = shard.description.info
    if model is None or info.get(WEIGHTS_KEY) == model.weights:
        return
    empty = not count_points(shard)
    # A store that an earlier version made knows its model by name alone.
    if empty or (WEIGHTS_KEY not in info and info.get(MODEL_KEY) == model.name):
        shard.update_info({MODEL_KEY: model.name, WEIGHTS_KEY: model.weights})
    check_model(shard, model)


def _list(models: Iterable[ModelIdentity]) -> str:
    return ", ".join(sorted(f"{model.name} {model.weights}" for model in models))
