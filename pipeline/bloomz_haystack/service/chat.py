"""`POST /v1/chat/completions`: the last question of a conversation -> an answer with its sources, whole or streamed.

The messages are those of fastapi-openai-compat, deepset's engine. Its router is not: it hands a question on without the
request (which the queue asks whether the client is still there), lets unknown fields pass, turns an error amid a stream
into a broken connection, and ends a stream without [DONE].
"""

import logging
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from bloomz_haystack.service.chat_generator import WrittenAnswer
from bloomz_haystack.service.chat_language import UNKNOWN, question_language
from bloomz_haystack.service.chat_sources import annotations_of, as_documents, numbered_text
from bloomz_haystack.service.chat_types import ChatAnswer, ChatChoice, ChatMessageAnswer, ChatRequest
from bloomz_haystack.service.embeddings import CHAT_MODEL
from bloomz_haystack.service.errors import ServiceError, error_response
from bloomz_haystack.service.search import searched
from bloomz_haystack.service.state import ReadyState, ServiceState
from bloomz_haystack.service.types import SearchResponse

logger = logging.getLogger(__name__)

chat_router = APIRouter(tags=["chat"])

EVENTS = "text/event-stream"
LONGEST_QUESTION = 4000  # characters that a generator is handed; about what the search reads of it
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}  # of a generator that was not called


@chat_router.post(
    "/v1/chat/completions",
    summary="Answer the last question of a conversation",
    response_model=ChatAnswer,
    response_model_exclude_unset=True,
    responses={200: {"content": {EVENTS: {}}}},
)
async def complete_chat(wanted: ChatRequest, request: Request, state: ReadyState) -> ChatAnswer | StreamingResponse:
    """Find passages, and answer from them in the question's language, citing them as [1], [2].

    Without a generator the passages themselves are the answer; without a passage at or above the threshold the answer
    is that it is not known. The sources are in the message's annotations.
    """
    _check_model(wanted.model, state)
    found = await searched(state, request, wanted.search())
    reply = _Reply(wanted, state, found)
    if wanted.stream:
        return StreamingResponse(reply.events(), media_type=EVENTS, headers={"X-Accel-Buffering": "no"})
    return await reply.whole()


def _check_model(wanted: str | None, state: ServiceState) -> None:
    known = [CHAT_MODEL, *([state.generator.model] if state.generator else [])]
    names = {name.rpartition("/")[2] for name in known}
    if wanted is not None and wanted.rpartition("/")[2] not in names:  # gateways put their own name before it
        raise ServiceError(404, f"the model {wanted!r} does not chat here: use {CHAT_MODEL!r}", "model")


class _Reply:
    """One answer to one question."""

    def __init__(self, wanted: ChatRequest, state: ServiceState, found: SearchResponse) -> None:
        self._state, self._found = state, found
        question = found.query[:LONGEST_QUESTION]
        self._language = question_language(question)
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
        self._given = (question, self._language, as_documents(found.passages), wanted.sampling())
        self._generator = state.generator if found.passages else None

    def _ready(self) -> WrittenAnswer:
        """Return the answer that needs no generator."""
        passages = self._found.passages
        text = numbered_text(passages) if passages else UNKNOWN[self._language]
        return WrittenAnswer(text, list(range(1, len(passages) + 1)), "stop", NO_USAGE)

    async def whole(self) -> ChatAnswer:
        """Return the answer once it is complete."""
        start = time.perf_counter()
        answer = await self._generator.write(*self._given) if self._generator else self._ready()
        self._observe(start)
        annotations = annotations_of(self._found.passages, answer.text)
        message = ChatMessageAnswer(role="assistant", content=answer.text, annotations=annotations, cited=answer.cited)
        choice = ChatChoice(index=0, message=message, finish_reason=answer.finish_reason)
        return self._completion("chat.completion", choice, usage=answer.usage)

    async def events(self) -> AsyncIterator[str]:
        """Yield the answer as server-sent events: the sources, the pieces, the numbers that were cited."""
        start = time.perf_counter()
        yield self._event(content="", annotations=annotations_of(self._found.passages))
        try:
            async for piece in self._pieces():
                if isinstance(piece, str):
                    yield self._event(content=piece)
                else:
                    yield self._event(piece.finish_reason, cited=piece.cited)
        except ServiceError as error:  # the status was sent long ago
            yield f"data: {bytes(error_response(error).body).decode()}\n\n"
            return
        self._observe(start)
        yield "data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[str | WrittenAnswer]:
        if self._generator is None:
            ready = self._ready()
            yield ready.text
            yield ready
            return
        async for piece in self._generator.stream(*self._given):
            yield piece

    def _observe(self, start: float) -> None:
        if self._generator:
            self._state.metrics.steps.labels("generate").observe(time.perf_counter() - start)

    def _event(self, finish_reason: str | None = None, **delta: Any) -> str:  # noqa: ANN401  # fields of the message
        message = ChatMessageAnswer(role="assistant", **delta)
        choice = ChatChoice(index=0, delta=message, finish_reason=finish_reason)
        chunk = self._completion("chat.completion.chunk", choice)
        return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"

    def _completion(
        self,
        kind: Literal["chat.completion", "chat.completion.chunk"],
        choice: ChatChoice,
        usage: dict[str, Any] | None = None,
    ) -> ChatAnswer:
        answer = ChatAnswer(
            id=self._id, object=kind, created=self._created, model=CHAT_MODEL, choices=[choice], usage=usage
        )
        if self._found.notes:
            answer.notes = self._found.notes
        return answer
