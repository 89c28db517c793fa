"""`GET /healthz`, `/readyz`, `/metrics` and `/v1/info`: how the service is, and what it serves."""

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from bloomz_haystack.service.errors import client_errors
from bloomz_haystack.service.state import AnyState
from bloomz_haystack.service.types import InfoResponse

health_router = APIRouter(tags=["health"])


@health_router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Answer as long as the process runs."""
    return {"status": "ok"}


@health_router.get("/readyz", summary="Are the models loaded?")
async def readyz(state: AnyState) -> dict[str, str]:
    """Answer 503 until the models are loaded and warm."""
    state.check_ready()
    return {"status": "ready"}


@health_router.get("/v1/info", summary="What is served?")
async def read_info(state: AnyState) -> InfoResponse:
    """Name the models, and count what the store holds."""

    def work() -> InfoResponse:
        with client_errors():
            return state.models.info()

    return await asyncio.to_thread(work)


@health_router.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
async def read_metrics(state: AnyState) -> Response:
    """Return histograms of seconds by door and by step, queue, cache and store, in Prometheus' text."""
    text = await asyncio.to_thread(state.metrics.text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
