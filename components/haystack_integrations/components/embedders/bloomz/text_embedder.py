"""Question -> vector: a Haystack component around the engine's `Encoder`."""

from os import PathLike
from typing import TYPE_CHECKING, Any

from haystack import component
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.common.bloomz.component import BloomzComponent
from haystack_integrations.common.bloomz.identity import embedding_of
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.common.bloomz.plain_text import plain_text

if TYPE_CHECKING:
    from haystack_integrations.common.bloomz.encoder import Encoder

_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class BloomzTextEmbedder(BloomzComponent["Encoder"]):
    """Embed a question, in French or in English, with a Bloomz retriever.

    A text without any token (an empty one, for instance) embeds as the tokenizer's end-of-text token.

    Usage::

        embedder = BloomzTextEmbedder("cmarkea/bloomz-560m-retriever-v2")
        embedder.run("Où se trouve la tour Eiffel ?")["embedding"]
        embedder.run("Where is the Eiffel tower?")["embedding"]
    """

    def __init__(
        self,
        model: str | PathLike[str] = "cmarkea/bloomz-560m-retriever-v2",
        *,
        device: ComponentDevice | None = None,
        token: Secret | None = _TOKEN,
        prefix: str = "",
        suffix: str = "",
        normalize_embeddings: bool = True,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        precision: Precision | None = None,
        progress_bar: bool = True,
    ) -> None:
        """Store the parameters; nothing is loaded before `warm_up` or the first `run`.

        :param model: name on the Hugging Face Hub, local folder or bundled name of a Bloom checkpoint.
        :param device: where to run; None takes CUDA if there is one, else the CPU.
        :param token: for gated or private models on the Hub.
        :param prefix: put before the text; the published models were trained without.
        :param suffix: put after the text; the published models were trained without.
        :param normalize_embeddings: give unit vectors; False gives raw ones, for the L2 distance of the v1 retrievers.
        :param local_files_only: never ask the Hub, take what is on disk.
        :param model_kwargs: more arguments for loading the weights, for instance `{"dtype": "float32"}`.
        :param tokenizer_kwargs: more arguments for loading the tokenizer.
        :param config_kwargs: more arguments for loading the configuration.
        :param revision: branch, tag or commit on the Hub.
        :param max_length: tokens kept of a text, whose end is cut; None takes the model's `seq_length`, else 2048.
        :param precision: "int8" for weights of 8 bits, on a CPU: about twice as fast and a third of the memory, ranks
            all but the same; None for the numbers of the model card.
        :param progress_bar: show one on stderr while transformers loads the model.
        :raises ValueError: if `max_length` is not positive or `device` is a map of devices.
        :raises TypeError: if `model` is no name or path, or `device` or `token` is a bare string.
        """
        self.model = model  # type: ignore[assignment]  # a path becomes text below
        self.device = device
        self.token = token
        self.prefix = prefix
        self.suffix = suffix
        self.normalize_embeddings = normalize_embeddings
        self.local_files_only = local_files_only
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.config_kwargs = config_kwargs
        self.revision = revision
        self.max_length = max_length
        self.precision = precision
        self.progress_bar = progress_bar
        self._prepare()

    def _build(self) -> "Encoder":
        from haystack_integrations.common.bloomz.encoder import Encoder

        return Encoder(self._open_checkpoint("embed"), max_length=self.max_length)

    @property
    def dimension(self) -> int:
        """Numbers in a vector; loads the model if needed."""
        return self._warm_engine().dimension

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed one text.

        :param text: a question, usually.
        :returns: `embedding`, a list of H floats; it knows its model, which a store compares with its own.
        :raises TypeError: if `text` is not a string.
        """
        return {"embedding": self.run_batch([text])["embedding"][0]}

    def run_batch(self, texts: list[str]) -> dict[str, list[list[float]]]:
        """Embed many texts, computed together.

        :param texts: B questions, usually.
        :returns: `embedding`, B lists of H floats, in the order of the texts.
        :raises TypeError: if one of them is not a string.
        """
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(
                    f"BloomzTextEmbedder expects a string as input, but got {type(text).__name__}. "
                    "In case you want to embed a list of Documents, please use the BloomzDocumentEmbedder."
                )
        encoder = self._warm_engine()
        whole = [self.prefix + plain_text(text) + self.suffix for text in texts]
        vectors = encoder.encode(whole, normalize=self.normalize_embeddings).tolist()
        return {"embedding": [embedding_of(vector, encoder.checkpoint.identity) for vector in vectors]}
