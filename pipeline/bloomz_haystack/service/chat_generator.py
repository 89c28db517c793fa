"""Passages and a question -> an answer that cites them, by what follows the ranker in `rag.yaml`, on Haystack.

The generator is any OpenAI-compatible server. What it does wrong becomes one clear line, 502 or 504.
"""

import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import openai
import yaml
from haystack import Document, Pipeline
from haystack.core.pipeline.pipeline import PipelineStreamHandle
from haystack.utils import Secret

from bloomz_haystack.service.chat_language import LANGUAGE_NAMES
from bloomz_haystack.service.errors import ServiceError
from haystack_integrations.common.bloomz.language import Language

logger = logging.getLogger(__name__)

RAG_FILE = "rag.yaml"
SEARCH = {"embedder", "retriever", "ranker"}  # of that pipeline: the service has its own
MOST_WRITTEN = 64  # answers that are being written at the same time
LONGEST_REASON = 200


class WrittenAnswer(NamedTuple):
    """What a generator wrote."""

    text: str
    cited: list[int]  # numbers of the passages, from 1
    finish_reason: str
    usage: dict[str, Any] | None


class AnswerGenerator:
    """Words answers from passages."""

    def __init__(self, url: str, model: str) -> None:
        """Build the pipeline; nothing is sent.

        :param url: address of an OpenAI-compatible server, e.g. http://127.0.0.1:11434/v1.
        :param model: as that server calls it.
        """
        self.model = model
        self._url = url
        self._pipeline = writing_pipeline(url, model)
        self._written = 0

    async def write(
        self, question: str, language: Language, passages: Sequence[Document], sampling: dict[str, Any]
    ) -> WrittenAnswer:
        """Write an answer.

        :param question: of the user.
        :param language: of the question.
        :param passages: to answer from; one at least.
        :param sampling: temperature and the like.
        :returns: the answer.
        :raises ServiceError: 502, 503 or 504.
        """
        with self._one_more(), self._failures():
            return _written(await self._pipeline.run_async(_inputs(question, language, passages, sampling)))

    async def stream(
        self, question: str, language: Language, passages: Sequence[Document], sampling: dict[str, Any]
    ) -> AsyncIterator[str | WrittenAnswer]:
        """Write an answer piece by piece; the server is asked to stop when nobody listens any more.

        :param question: of the user.
        :param language: of the question.
        :param passages: to answer from; one at least.
        :param sampling: temperature and the like.
        :yields: its pieces, then the whole.
        :raises ServiceError: 502, 503 or 504.
        """
        with self._one_more(), self._failures():
            handle: PipelineStreamHandle = self._pipeline.stream(_inputs(question, language, passages, sampling))
            async for piece in handle:
                if piece.content:
                    yield piece.content
            yield _written(handle.result)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        if self._written >= MOST_WRITTEN:
            raise ServiceError(
                503, f"{self._written} answers are being written already: try again later", retry_after=5
            )
        self._written += 1
        try:
            yield
        finally:
            self._written -= 1

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of the client, of the network, of what the server sent
            cause = _first_cause(error)
            failure = generator_failure(cause, self.model)
            # Without the message, which may quote the question.
            noted = {"generator": self._url, "error": type(cause).__name__, "status": failure.status_code}
            logger.error("the generator failed", extra=noted)
            raise failure from error

    async def close(self) -> None:
        """Close the connections."""
        await self._pipeline.close_async()


def writing_pipeline(url: str, model: str) -> Pipeline:
    """Build what follows the ranker in `rag.yaml`.

    :param url: of the generator's server.
    :param model: as that server calls it.
    :returns: a pipeline from `router` (input `documents`) to `answer_builder`; the key is OPENAI_API_KEY, if there is
        one, the time that the server may take is OPENAI_TIMEOUT, if there is one.
    """
    whole = yaml.safe_load(files("bloomz_haystack").joinpath(RAG_FILE).read_text(encoding="utf-8"))
    parts = {name: part for name, part in whole["components"].items() if name not in SEARCH}
    settings = parts["generator"]["init_parameters"]
    settings |= {
        "model": model,
        "api_base_url": url,
        "timeout": float(os.environ.get("OPENAI_TIMEOUT", settings["timeout"])),
    }
    connections = [edge for edge in whole["connections"] if edge["sender"].partition(".")[0] not in SEARCH]
    pipeline = Pipeline.from_dict({"components": parts, "connections": connections})
    if not os.environ.get("OPENAI_API_KEY"):
        generator: Any = pipeline.get_component("generator")
        generator.api_key = Secret.from_token("none")  # the client insists on one, servers at home do not
    return pipeline


def _inputs(
    question: str, language: Language, passages: Sequence[Document], sampling: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    return {
        "router": {"documents": list(passages)},
        "prompt_builder": {"question": question, "language": LANGUAGE_NAMES[language]},
        "generator": {"generation_kwargs": sampling},
        "answer_builder": {"query": question},
    }


def _written(outputs: dict[str, Any]) -> WrittenAnswer:
    [answer] = outputs["answer_builder"]["answers"]
    cited = [document.meta["source_index"] for document in answer.documents if document.meta["referenced"]]
    reason = answer.meta.get("finish_reason")
    if reason is None:
        raise EOFError("the answer has no end")
    return WrittenAnswer(answer.data, cited, reason, answer.meta.get("usage") or None)


def _first_cause(error: BaseException) -> BaseException:
    """Return what a component raised, without Haystack's wrapping."""
    while type(error).__module__.startswith("haystack.") and error.__cause__ is not None:
        error = error.__cause__
    return error


def generator_failure(error: BaseException, model: str) -> ServiceError:
    """Return in one line what a generator did wrong.

    :param error: that was raised.
    :param model: its name.
    :returns: the line, with 502, or 504 if it took too long.
    """
    if isinstance(error, ServiceError):
        return error
    name = f"the generator {model}"
    if isinstance(error, openai.APITimeoutError) or "Timeout" in type(error).__name__:
        return ServiceError(504, f"{name} took too long to answer: try again, or ask with fewer passages (top_k)")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ServiceError(502, f"{name} refused its key: set OPENAI_API_KEY where the service is started")
    if isinstance(error, openai.NotFoundError):
        return ServiceError(502, f"{name} is not known to its server: check --generator and --generator-model")
    if isinstance(error, openai.RateLimitError):
        return ServiceError(502, f"{name} has too much to do: try again later", retry_after=10)
    if isinstance(error, openai.APIStatusError):
        return ServiceError(502, f"{name} failed with status {error.status_code}: {_reason_of(error)}")
    if isinstance(error, openai.APIConnectionError):
        return ServiceError(502, f"{name} cannot be reached: is its server running?")
    if isinstance(error, openai.APIError):
        return ServiceError(502, f"{name} failed: {_reason_of(error)}")
    return ServiceError(502, f"{name} sent what cannot be read, or broke off")


def _reason_of(error: openai.APIError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    reason = " ".join(str(body.get("message") or "it does not say why").split())
    return reason[:LONGEST_REASON]
