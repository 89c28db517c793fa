"""Documents -> documents with vectors: a Haystack component around the engine's `Encoder`."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from haystack import Document, component
from haystack.utils import ComponentDevice, Secret
from tqdm import tqdm

from haystack_integrations.common.bloomz.arguments import check_items
from haystack_integrations.common.bloomz.component import BloomzComponent, passage_text
from haystack_integrations.common.bloomz.identity import ModelIdentity, embedding_of
from haystack_integrations.common.bloomz.int8 import Precision

if TYPE_CHECKING:
    from haystack_integrations.common.bloomz.checkpoint import Placement
    from haystack_integrations.common.bloomz.encoder import Encoder

_ADVICE = "To embed a question, use the BloomzTextEmbedder"
_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class BloomzDocumentEmbedder(BloomzComponent["Encoder"]):
    """Embed documents, in French or in English, with a Bloomz retriever.

    A document without any token (an empty one, for instance) embeds as the tokenizer's end-of-text token.

    Usage::

        embedder = BloomzDocumentEmbedder("cmarkea/bloomz-560m-retriever-v2")
        documents = [Document(content="La tour Eiffel est à Paris."), Document(content="Big Ben is in London.")]
        embedder.run(documents)["documents"][0].embedding
    """

    def __init__(
        self,
        model: str | PathLike[str] = "cmarkea/bloomz-560m-retriever-v2",
        *,
        device: ComponentDevice | None = None,
        token: Secret | None = _TOKEN,
        prefix: str = "",
        suffix: str = "",
        progress_bar: bool = True,
        normalize_embeddings: bool = True,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        batch_tokens: int = 2048,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        precision: Precision | None = None,
    ) -> None:
        """Store the parameters; nothing is loaded before `warm_up` or the first `run`.

        :param model: name on the Hugging Face Hub, local folder or bundled name of a Bloom checkpoint.
        :param device: where to run; None takes CUDA if there is one, else the CPU.
        :param token: for gated or private models on the Hub.
        :param prefix: put before each text; the published models were trained without.
        :param suffix: put after each text; the published models were trained without.
        :param progress_bar: show one on stderr, also while transformers loads the model.
        :param normalize_embeddings: give unit vectors; False gives raw ones, for the L2 distance of the v1 retrievers.
        :param local_files_only: never ask the Hub, take what is on disk.
        :param model_kwargs: more arguments for loading the weights, for instance `{"dtype": "float32"}`.
        :param tokenizer_kwargs: more arguments for loading the tokenizer.
        :param config_kwargs: more arguments for loading the configuration.
        :param revision: branch, tag or commit on the Hub.
        :param max_length: tokens kept of a text, whose end is cut; None takes the model's `seq_length`, else 2048.
        :param batch_tokens: tokens computed together; 1,024 to 2,048 is best on a CPU, more on a GPU.
        :param meta_fields_to_embed: metadata put before the content, in this order.
        :param embedding_separator: stands between the metadata and the content.
        :param precision: "int8" for weights of 8 bits, on a CPU: about twice as fast and a third of the memory, ranks
            all but the same; None for the numbers of the model card.
        :raises ValueError: if a number of tokens is not positive or `device` is a map of devices.
        :raises TypeError: if `model` is no name or path, or `device` or `token` is a bare string.
        """
        self.model = model  # type: ignore[assignment]  # a path becomes text below
        self.device = device
        self.token = token
        self.prefix = prefix
        self.suffix = suffix
        self.progress_bar = progress_bar
        self.normalize_embeddings = normalize_embeddings
        self.local_files_only = local_files_only
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.config_kwargs = config_kwargs
        self.revision = revision
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.meta_fields_to_embed = meta_fields_to_embed
        self.embedding_separator = embedding_separator
        self.precision = precision
        self._prepare()

    def _build(self) -> "Encoder":
        from haystack_integrations.common.bloomz.encoder import Encoder

        return Encoder(self._open_checkpoint("embed"), max_length=self.max_length, batch_tokens=self.batch_tokens)

    @property
    def dimension(self) -> int:
        """Numbers in a vector; loads the model if needed."""
        return self._warm_engine().dimension

    @property
    def identity(self) -> ModelIdentity | None:
        """Name and fingerprint of the model, which a store compares with its own; loads the model if needed."""
        return self._warm_engine().checkpoint.identity

    @property
    def most_tokens(self) -> int:
        """Tokens that the model reads of a text; loads the model if needed."""
        return self._warm_engine().max_length

    @property
    def placement(self) -> "Placement":
        """Device and dtype of the model, and why; loads it if needed."""
        return self._warm_engine().checkpoint.placement

    def fits(self, text: str) -> bool:
        """Return whether the model reads a text to its end; loads the model if needed.

        :param text: a content, without metadata.
        :returns: False if `run` would cut its end.
        """
        return self._warm_engine().fits(self.prefix + text + self.suffix)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed documents.

        :param documents: any number; none is changed in place.
        :returns: `documents`, copies with their `embedding` set, in the same order.
        :raises TypeError: if `documents` is not a list of Documents.
        """
        check_items("documents", documents, Document, _ADVICE)
        if not documents:
            return {"documents": []}
        vectors = self.embed(documents)
        # row by row: the whole array as Python floats beside itself would take nine times its memory at once
        embedded = [
            replace(doc, embedding=embedding_of(row.tolist(), self.identity))
            for doc, row in zip(documents, vectors, strict=True)
        ]
        return {"documents": embedded}

    def embed(
        self, documents: list[Document], *, on_truncated: Callable[[list[Document]], Any] | None = None
    ) -> npt.NDArray[np.float32]:
        """Embed documents in bulk: the vectors as one array, eight times smaller than lists of floats.

        :param documents: at least one loads the model; none is changed.
        :param on_truncated: called with the documents that lost their end, if any did; None logs one warning.
        :returns: (B, H) float32, in the order of the documents.
        :raises TypeError: if `documents` is not a list of Documents.
        """
        check_items("documents", documents, Document, _ADVICE)
        texts = [self.prefix + self._text(document) + self.suffix for document in documents]
        encoder = self._warm_engine()
        named = None if on_truncated is None else lambda places: on_truncated([documents[place] for place in places])
        with tqdm(total=len(texts), desc="Embedding documents", unit="doc", disable=not self.progress_bar) as bar:
            return encoder.encode(texts, normalize=self.normalize_embeddings, progress=bar.update, on_truncated=named)

    def _text(self, document: Document) -> str:
        return passage_text(document, self.meta_fields_to_embed, self.embedding_separator)
