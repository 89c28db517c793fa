"""A retriever -> a model that `mteb` evaluates on any of its tasks. Needs the package `mteb` only when it is run.

Usage::

    import mteb
    from bloomz_haystack.benchmark.mteb_model import MtebRetriever

    model = MtebRetriever("cmarkea/bloomz-560m-retriever-v2")
    mteb.evaluate(model, mteb.get_tasks(tasks=["AlloprofRetrieval"], languages=["fra"]))
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from bloomz_haystack.models.find import find_model
from haystack_integrations.common.bloomz.batches import Vectors
from haystack_integrations.common.bloomz.checkpoint import open_checkpoint
from haystack_integrations.common.bloomz.encoder import Encoder

OWNER = "bloomz-haystack"  # of bundled models and folders: mteb wants owner/name


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

        :param model_name: bundled name, folder or Hub name.
        :param revision: shown in the results; None takes what identifies the weights.
        :param device: as for `open_checkpoint`.
        :param batch_tokens: tokens computed together; the batches that mteb makes are laid together again.
        """
        self.model_name = model_name
        self.revision = revision
        self._encoder = Encoder(open_checkpoint(model_name, "embed", device=device), batch_tokens=batch_tokens)

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
        return _mteb("similarity_functions").cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
        """Compare vectors one to one.

        :param embeddings1: (B, H).
        :param embeddings2: (B, H).
        :returns: (B,) cosines, as a tensor.
        """
        return _mteb("similarity_functions").pairwise_cos_sim(embeddings1, embeddings2)

    @cached_property
    def mteb_model_meta(self) -> Any:  # noqa: ANN401
        """What mteb writes beside its results."""
        own = self.model_name.count("/") != 1 or Path(self.model_name).expanduser().is_dir()
        config = self._encoder.checkpoint.model.config
        return _mteb("models").ModelMeta.create_empty(
            {
                "name": f"{OWNER}/{Path(self.model_name).name}" if own else self.model_name,
                "revision": self.revision or find_model(self.model_name).fingerprint,
                "languages": ["fra-Latn", "eng-Latn"],
                "n_parameters": sum(weight.numel() for weight in self._encoder.checkpoint.model.parameters()),
                "embed_dim": config.hidden_size,
                "max_tokens": self._encoder.max_length,
                "similarity_fn_name": "cosine",
                "framework": ["PyTorch"],
                "use_instructions": False,
            }
        )


def _mteb(module: str) -> Any:  # noqa: ANN401
    try:
        return import_module(f"mteb.{module}")
    except ImportError as error:
        raise ImportError('mteb is not installed: pip install "bloomz-haystack[mteb]"') from error
