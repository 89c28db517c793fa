"""Settings -> the FastAPI app: all doors, what stands before them, and what is opened and closed around them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from bloomz_haystack.service.access import BrowserHeaders, Doorkeeper
from bloomz_haystack.service.chat import chat_router
from bloomz_haystack.service.chat_generator import AnswerGenerator
from bloomz_haystack.service.documents import documents_router
from bloomz_haystack.service.embeddings import embeddings_router
from bloomz_haystack.service.errors import install_error_handlers
from bloomz_haystack.service.health import health_router
from bloomz_haystack.service.jobs import Jobs
from bloomz_haystack.service.log import RequestLog
from bloomz_haystack.service.mcp_tool import mount_mcp
from bloomz_haystack.service.metrics import Metrics, StateCollector
from bloomz_haystack.service.models import Models
from bloomz_haystack.service.rerank import rerank_router
from bloomz_haystack.service.search import search_router
from bloomz_haystack.service.settings import ServeSettings
from bloomz_haystack.service.slots import Slots
from bloomz_haystack.service.state import ServiceState
from bloomz_haystack.service.static_page import mount_pages
from bloomz_haystack.service.types import ErrorResponse

UPLOADS_AT_ONCE = 2  # that are read; each may be large
SHORT_AT_ONCE = 16  # texts to be embedded; they take no memory to speak of, and wait for one call of the model

logger = logging.getLogger(__name__)

DESCRIPTION = """Passages that answer questions, in French and in English.

Des passages qui répondent aux questions, en français et en anglais."""


def create_app(settings: ServeSettings, *, on_failure: Callable[[], None] = lambda: None) -> FastAPI:
    """Build the app, and open the store; the models are loaded when the app starts.

    :param settings: of the service.
    :param on_failure: called if the models cannot be loaded; the reason is `app.state.service.failure`.
    :returns: the app.
    :raises ValueError: if there is no store, or a model does not fit it.
    :raises DocumentStoreError: if another process holds the store.
    """
    models = Models(settings)
    jobs = Jobs(models.store.folder, models.index_settings, models.catalog)
    slots, short, uploads = (Slots(most, settings.waiting) for most in (settings.slots, SHORT_AT_ONCE, UPLOADS_AT_ONCE))
    state = ServiceState(settings, models, slots, short, uploads, jobs, Metrics(), time.time())
    if settings.generator and settings.generator_model:
        state.generator = AnswerGenerator(settings.generator, settings.generator_model)
    state.metrics.registry.register(StateCollector([slots, short], jobs, models))
    app = FastAPI(
        title="bloomz",
        description=DESCRIPTION,
        version=version("bloomz-haystack"),
        docs_url=None,  # its script comes from another machine; static_page has one of ours
        redoc_url=None,
        lifespan=_lifespan(on_failure),
        responses={status: {"model": ErrorResponse} for status in (401, 422, 503)},
    )
    app.state.service = state
    for router in (search_router, chat_router, documents_router, rerank_router, embeddings_router, health_router):
        app.include_router(router)
    mount_mcp(app)
    mount_pages(app)
    install_error_handlers(app)
    app.add_middleware(Doorkeeper, settings=settings)
    app.add_middleware(BrowserHeaders)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(RequestLog, metrics=state.metrics)
    return app


def _lifespan(on_failure: Callable[[], None]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state: ServiceState = app.state.service
        loading = asyncio.create_task(_load(state, on_failure))  # the doors are open meanwhile, and say 503
        async with app.state.mcp.run():
            yield
        await loading
        if state.generator:
            await state.generator.close()
        await asyncio.to_thread(state.jobs.close)
        for slots in (state.slots, state.short):
            slots.close()
        state.models.close()

    return lifespan


async def _load(state: ServiceState, on_failure: Callable[[], None]) -> None:
    start = time.perf_counter()
    try:
        await asyncio.to_thread(state.models.warm_up)
        state.jobs.start()
    except Exception as error:  # of the Hub, of a damaged checkpoint, of the store
        state.failure = error
        logger.error("the models cannot be loaded", extra={"error": str(error)})
        on_failure()
    else:
        logger.info("ready", extra={"seconds": round(time.perf_counter() - start, 2)})
