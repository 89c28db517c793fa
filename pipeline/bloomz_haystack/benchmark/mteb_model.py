"""A retriever -> a model that `mteb` evaluates on any of its tasks, and the entries of its registry of models.

Needs the package `mteb` only when it is run::

    import mteb
    from bloomz_haystack.benchmark.mteb_model import MtebRetriever

    model = MtebRetriever("cmarkea/bloomz-560m-retriever-v2")
    mteb.evaluate(model, [mteb.get_task("AlloprofRetrieval", languages=["fra"])])
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from bloomz_haystack.benchmark.mteb_facts import KNOWN_RETRIEVERS, OF_ALL, OWNER, retriever_facts
from bloomz_haystack.models.find import find_model
from haystack_integrations.common.bloomz.batches import Vectors
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder


class MtebRetriever:
    """What mteb calls an encoder: no prompt, the same vectors for questions and passages, compared by cosine."""

    def __init__(
        self,
        model_name: str = "cmarkea/bloomz-560m-retriever-v2",
        revision: str | None = None,
        *,
        device: str | None = None,
        batch_tokens: int = 2048,
        **_: Any,  # noqa: ANN401  # mteb may hand over settings of other kinds of models
    ) -> None:
        """Load the model.

        :param model_name: bundled name (with or without mteb's `bloomz-haystack/` before it), folder or Hub name.
        :param revision: shown in the results; None takes what identifies the weights.
        :param device: as for `open_checkpoint`.
        :param batch_tokens: tokens computed together; the batches that mteb makes are laid together again.
        """
        self.model_name = model_name.removeprefix(f"{OWNER}/")
        self.revision = revision
        self._encoder = Encoder(open_checkpoint(self.model_name, "embed", device=device), batch_tokens=batch_tokens)

    def encode(self, inputs: Iterable[Mapping[str, Sequence[str]]], **_: Any) -> Vectors:  # noqa: ANN401
        """Embed texts.

        :param inputs: batches with the texts under "text".
        :returns: (B, H) float32 unit vectors, in the order of the texts.
        """
        return self._encoder.encode([text for batch in inputs for text in batch["text"]])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
        """Compare every vector with every other.

        :param embeddings1: (B, H).
        :param embeddings2: (C, H).
        :returns: (B, C) cosines, as a tensor.
        """
        return mteb_module("similarity_functions").cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
        """Compare vectors one to one.

        :param embeddings1: (B, H).
        :param embeddings2: (B, H).
        :returns: (B,) cosines, as a tensor.
        """
        return mteb_module("similarity_functions").pairwise_cos_sim(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> Any:  # noqa: ANN401
        """What mteb writes beside its results."""
        own = self.model_name.count("/") != 1 or Path(self.model_name).expanduser().is_dir()
        name = f"{OWNER}/{Path(self.model_name).name}" if own else self.model_name
        known = {"revision": self.revision or find_model(self.model_name).fingerprint}
        if name in KNOWN_RETRIEVERS:
            return _model_meta(name, retriever_facts(name) | known)
        model = self._encoder.checkpoint.model
        size = sum(weight.numel() for weight in model.parameters())
        measured = {"n_parameters": size, "embed_dim": model.config.hidden_size, "max_tokens": self._encoder.max_length}
        return _model_meta(name, OF_ALL | measured | known)


def model_metas() -> list[Any]:
    """Return the entries of mteb's registry for the published retrievers and the bundled one.

    :returns: an mteb `ModelMeta` each; its `load_model()` opens the model.
    :raises ImportError: without mteb.
    """
    return [_model_meta(name, retriever_facts(name)) for name in KNOWN_RETRIEVERS]


def _model_meta(name: str, facts: Mapping[str, Any]) -> Any:  # noqa: ANN401
    return mteb_module("models").ModelMeta(loader=MtebRetriever, name=name, **facts)


def mteb_module(name: str) -> Any:  # noqa: ANN401
    """Return a module of mteb.

    :param name: of the module, inside mteb.
    :returns: the module.
    :raises ImportError: without mteb; the message says how to install it.
    """
    try:
        return import_module(f"mteb.{name}")
    except ImportError as error:
        raise ImportError('mteb is not installed: pip install "bloomz-haystack[mteb]"') from error
