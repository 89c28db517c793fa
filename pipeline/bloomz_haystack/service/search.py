"""`POST /v1/search`: a question -> the passages that answer it."""

import logging

from fastapi import APIRouter, Request

from bloomz_haystack.service.errors import client_errors
from bloomz_haystack.service.state import ReadyState, ServiceState
from bloomz_haystack.service.types import SearchRequest, SearchResponse

logger = logging.getLogger(__name__)

search_router = APIRouter(tags=["search"])


@search_router.post("/v1/search", summary="Find the passages that answer a question")
async def search_passages(wanted: SearchRequest, request: Request, state: ReadyState) -> SearchResponse:
    """Find passages by meaning (and by words, if the store keeps them), rank them, mark the sentence that answers."""
    return await searched(state, request, wanted)


async def searched(state: ServiceState, request: Request | None, wanted: SearchRequest) -> SearchResponse:
    """Search in a slot, whichever door the question came through.

    :param state: of the service, its models loaded.
    :param request: of the client; None: not known.
    :param wanted: the question and its options.
    :returns: the passages, best first.
    :raises ServiceError: if the client made a mistake, or must wait.
    """

    def work() -> SearchResponse:
        with client_errors():
            return state.models.search(wanted)

    answer = await state.slots.run(request, work)
    for step, seconds in answer.seconds:
        state.metrics.steps.labels(step).observe(seconds)
    if state.settings.log_questions:
        logger.info("question", extra={"question": wanted.query, "passages": len(answer.passages)})
    return answer
