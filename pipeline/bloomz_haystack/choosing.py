"""A store's folder and the model asked for -> the model to use, or why it cannot be.

Vectors of two models cannot be compared, and the numbers would not show it: so the store remembers its model.
"""

from pathlib import Path

from haystack_integrations.common.bloomz.identity import model_name
from haystack_integrations.document_stores.qdrant_edge.origin import MODEL_KEY
from haystack_integrations.document_stores.qdrant_edge.store_json import read_description


def choose_model(folder: Path, asked: str | None, default: str | None) -> str:
    """Choose the bi-encoder: the one asked for, if it is the store's own; else the store's own; else the default.

    :param folder: the store's folder; it may not exist.
    :param asked: what the user asked for, if anything.
    :param default: for a store that names no model; None: there is no default, the user must say.
    :returns: the name or folder of the model.
    :raises ValueError: if the store was made with another model, or no model is known.
    """
    description = read_description(folder)
    kept = description.info.get(MODEL_KEY) if description else None
    if kept is None:
        if (chosen := asked or default) is None:
            raise ValueError(
                f"the store at {folder} does not say which model made it: name it with --model, or index into it first"
            )
        return model_name(chosen)
    if asked is not None and model_name(asked) != kept:
        raise ValueError(
            f"the store at {folder} was made with the model {kept}; vectors of {asked} cannot be compared with its "
            f"vectors: leave --model out, or index into another --store"
        )
    return kept


def choose_hybrid(folder: Path, asked: bool | None) -> bool:
    """Choose whether to search by words too: as asked, else whenever the store can.

    :param folder: the store's folder.
    :param asked: what the user asked for, if anything.
    :returns: whether to.
    :raises ValueError: if it is asked for and the store keeps no words.
    """
    description = read_description(folder)
    kept = description is not None and description.hybrid
    if asked and not kept:
        raise ValueError(
            f"the store at {folder} keeps no words to search: add them with bloomz index PATH --store {folder} "
            "--hybrid, which embeds nothing again, or leave --hybrid out"
        )
    return kept if asked is None else asked


def stored_dimension(folder: Path) -> int | None:
    """Read the numbers in a vector of a store, without opening it.

    :param folder: the store's folder.
    :returns: its dimension; None where there is no store.
    """
    description = read_description(folder)
    return description.embedding_dim if description else None
