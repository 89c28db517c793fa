"""Question and documents -> for each document the sentence that answers best: a Haystack component around `Encoder`."""

from collections.abc import Mapping
from itertools import chain
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from haystack import Document, ExtractedAnswer, component
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.common.bloomz.arguments import check_count, check_items
from haystack_integrations.common.bloomz.component import BloomzComponent
from haystack_integrations.common.bloomz.int8 import Precision
from haystack_integrations.common.bloomz.plain_text import plain_text
from haystack_integrations.common.bloomz.sentences import TextSpan, sentences
from haystack_integrations.components.readers.bloomz.sentence_scores import sentence_scores

if TYPE_CHECKING:
    from haystack_integrations.common.bloomz.encoder import Encoder

_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)
_PAGE = "page_number"  # Haystack's converters and splitters: of the first character; "\f" begins the next page


@component
class BloomzSentenceReader(BloomzComponent["Encoder"]):
    """Find the sentence of each document that answers a question, with a Bloomz retriever; no reader model is needed.

    A sentence is scored by the words it shares with the question and by its cosine with it, so that a French question
    finds its sentence in an English text. Give it the model that embeds the question: the weights are shared.

    Usage::

        reader = BloomzSentenceReader("tiny-fr-en-retriever")
        text = "La mairie ouvre à 9 heures. La piscine ferme le lundi."
        answer = reader.run(query="When is the pool closed?", documents=[Document(content=text)])["answers"][0]
        answer.data, answer.document_offset.start  # 'La piscine ferme le lundi.', 28
    """

    def __init__(
        self,
        model: str | PathLike[str] = "cmarkea/bloomz-560m-retriever-v2",
        *,
        device: ComponentDevice | None = None,
        token: Secret | None = _TOKEN,
        top_k: int | None = None,
        local_files_only: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        batch_tokens: int = 2048,
        precision: Precision | None = None,
        progress_bar: bool = True,
    ) -> None:
        """Store the parameters; nothing is loaded before `warm_up` or the first `run`.

        :param model: retriever: name on the Hugging Face Hub, local folder or bundled name of a Bloom checkpoint.
        :param device: where to run; None takes CUDA if there is one, else the CPU.
        :param token: for gated or private models on the Hub.
        :param top_k: documents to read, from the first; None reads all.
        :param local_files_only: never ask the Hub, take what is on disk.
        :param model_kwargs: more arguments for loading the weights, e.g. `{"dtype": "float32"}`.
        :param tokenizer_kwargs: more arguments for loading the tokenizer.
        :param config_kwargs: more arguments for loading the configuration.
        :param revision: branch, tag or commit on the Hub.
        :param max_length: tokens kept of a sentence; None takes the model's own.
        :param batch_tokens: tokens computed together.
        :param precision: "int8" for weights of 8 bits, on a CPU; None for the numbers of the model card.
        :param progress_bar: show one on stderr while the model loads.
        :raises ValueError: if a number is not positive or `device` is a map of devices.
        :raises TypeError: if `model` is no name or path, or `device` or `token` is a bare string.
        """
        if top_k is not None:
            check_count("top_k", top_k)
        self.model = model  # type: ignore[assignment]  # a path becomes text below
        self.device = device
        self.token = token
        self.top_k = top_k
        self.local_files_only = local_files_only
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.config_kwargs = config_kwargs
        self.revision = revision
        self.max_length = max_length
        self.batch_tokens = batch_tokens
        self.precision = precision
        self.progress_bar = progress_bar
        self._prepare()

    def _build(self) -> "Encoder":
        from haystack_integrations.common.bloomz.encoder import Encoder

        checkpoint = self._open_checkpoint("embed")
        return Encoder(checkpoint, max_length=self.max_length, batch_tokens=self.batch_tokens)

    @component.output_types(answers=list[ExtractedAnswer])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[ExtractedAnswer]]:
        """Find the best sentence of each document.

        :param query: the question, in French or in English, whatever the language of the documents.
        :param documents: of a ranker or a retriever; one without text has no answer.
        :param top_k: documents to read, from the first; None takes the component's own.
        :returns: `answers`, in the order of the documents: `data` is the sentence, `document_offset` its place in the
            content, `score` from 0 to 1 how near it is, `meta["answer_page_number"]` its page where the document has a
            `page_number`.
        :raises TypeError: if `query` is not a string or `documents` not a list of Documents.
        :raises ValueError: if `top_k` is not positive.
        """
        return {"answers": self.run_batch([query], [documents], top_k)["answers"][0]}

    def run_batch(
        self, queries: list[str], documents: list[list[Document]], top_k: int | None = None
    ) -> dict[str, list[list[ExtractedAnswer]]]:
        """Find the best sentence of each document of many questions; a sentence is embedded once.

        :param queries: B questions.
        :param documents: B lists, one for each question.
        :param top_k: as for `run`.
        :returns: {"answers": B lists, in the order of the questions}.
        :raises TypeError: as `run`.
        :raises ValueError: as `run`, or if there are not as many lists as questions.
        """
        if top_k is not None:
            check_count("top_k", top_k)
        limit = self.top_k if top_k is None else top_k
        asked = [_read(query, each, limit) for query, each in zip(queries, documents, strict=True)]
        texts = dict.fromkeys(text for one in asked for text in (one.question, *chain(*one.texts)) if one.texts)
        if texts:
            texts = dict(zip(texts, self._warm_engine().encode(list(texts)), strict=True))
        return {"answers": [_answers(one, texts) for one in asked]}


class _Asked(NamedTuple):
    """A question and what is read for it: documents, their sentences, the same as text."""

    query: str
    question: str
    documents: list[Document]
    spans: list[list[TextSpan]]
    texts: list[list[str]]


def _read(query: str, documents: list[Document], limit: int | None) -> _Asked:
    if not isinstance(query, str):
        raise TypeError(f"BloomzSentenceReader expects a string as query, but got {type(query).__name__}")
    check_items("documents", documents, Document)
    read = [(document, spans) for document in documents[:limit] if (spans := sentences(document.content or ""))]
    texts = [[plain_text(document.content[a:b]) for a, b in spans] for document, spans in read]  # type: ignore[index]
    return _Asked(query, plain_text(query), [document for document, _ in read], [spans for _, spans in read], texts)


def _answers(asked: _Asked, vectors: Mapping[str, Any]) -> list[ExtractedAnswer]:
    answers = []
    for document, spans, texts in zip(asked.documents, asked.spans, asked.texts, strict=True):
        cosines = np.stack([vectors[text] for text in texts]) @ vectors[asked.question]
        scores = sentence_scores(asked.question, texts, cosines)
        best = int(np.argmax(scores))
        answers.append(_answer(asked.query, document, spans[best], float(scores[best])))
    return answers


def _answer(query: str, document: Document, span: TextSpan, score: float) -> ExtractedAnswer:
    content = document.content or ""
    offset = ExtractedAnswer.Span(span.start, span.end)
    page = document.meta.get(_PAGE)
    turned = content.count("\f", 0, span.start)
    return ExtractedAnswer(
        query=query,
        score=score,
        data=content[span.start : span.end],
        document=document,
        context=content,
        document_offset=offset,
        context_offset=offset,
        meta={"answer_page_number": page + turned} if isinstance(page, int) else {},
    )
