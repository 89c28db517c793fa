"""What the doors share, and how an endpoint gets it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from bloomz_haystack.service.chat_generator import AnswerGenerator
from bloomz_haystack.service.errors import ServiceError
from bloomz_haystack.service.jobs import Jobs
from bloomz_haystack.service.metrics import Metrics
from bloomz_haystack.service.models import Models
from bloomz_haystack.service.settings import ServeSettings
from bloomz_haystack.service.slots import Slots


@dataclass
class ServiceState:
    """The parts of a running service."""

    settings: ServeSettings
    models: Models
    slots: Slots
    short: Slots  # of short texts to be embedded, which the engine computes together
    uploads: Slots  # that are read at the same time
    jobs: Jobs
    metrics: Metrics
    started: float  # Unix seconds
    generator: AnswerGenerator | None = None  # that words answers
    failure: Exception | None = None  # why the models could not be loaded

    def check_ready(self) -> None:
        """Refuse a request that needs the models, until they are loaded.

        :raises ServiceError: 503.
        """
        if self.failure is not None:
            raise ServiceError(503, "the models could not be loaded: the server's log says why", retry_after=60)
        if not self.models.ready.is_set():
            raise ServiceError(503, "the models are still being loaded", retry_after=2)


def state_of(request: Request) -> ServiceState:
    """Return the state of the app that a request came to.

    :param request: any.
    :returns: the state.
    """
    state: ServiceState = request.app.state.service
    return state


def ready_state(request: Request) -> ServiceState:
    """Return the state, once the models are loaded.

    :param request: any.
    :returns: the state.
    :raises ServiceError: 503 before that.
    """
    state = state_of(request)
    state.check_ready()
    return state


AnyState = Annotated[ServiceState, Depends(state_of)]
ReadyState = Annotated[ServiceState, Depends(ready_state)]
