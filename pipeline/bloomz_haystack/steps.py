"""A Haystack pipeline and its inputs -> its outputs, and the seconds of each component.

The clock is a Haystack tracer that keeps the tracer that was there before; runs in other threads do not meet.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from haystack import Pipeline, tracing
from haystack.core.errors import PipelineRuntimeError
from haystack.tracing import Span, Tracer

Around = Mapping[str, Callable[[], AbstractContextManager[object]]]


class TimedOutputs(NamedTuple):
    """What a run gave: the outputs by component, and the seconds by component."""

    outputs: dict[str, Any]
    seconds: dict[str, float]


def timed_run(
    pipeline: Pipeline, inputs: dict[str, dict[str, Any]], include_outputs_from: set[str], around: Around
) -> TimedOutputs:
    """Run a pipeline; threads may run the same one.

    :param pipeline: any.
    :param inputs: by component, as `Pipeline.run` takes them.
    :param include_outputs_from: components whose outputs are wanted although others consume them.
    :param around: by component, a context that it runs in; not counted in its seconds.
    :returns: outputs and seconds.
    :raises Exception: a component's own error, not `PipelineRuntimeError`, which only wraps it.
    """
    if not isinstance(tracing.tracer.actual_tracer, StepTracer):
        tracing.enable_tracing(StepTracer(tracing.tracer.actual_tracer))
    run = _Run(around)
    token = _CURRENT.set(run)
    try:
        return TimedOutputs(pipeline.run(inputs, include_outputs_from=include_outputs_from), run.seconds)
    except PipelineRuntimeError as error:
        if (own := error.__cause__) is None:
            raise
        raise own from own.__cause__  # what a server said stays with it
    finally:
        _CURRENT.reset(token)


class StepTracer(Tracer):
    """Times the components of `timed_run`, and hands every span on to the tracer before it."""

    def __init__(self, before: Tracer) -> None:
        """Keep the tracer that was there.

        :param before: Haystack's null tracer, or the user's own.
        """
        self.before = before

    @contextmanager
    def trace(
        self, operation_name: str, tags: dict[str, Any] | None = None, parent_span: Span | None = None
    ) -> Iterator[Span]:
        """Time a component that belongs to a `timed_run`.

        :param operation_name: only that of a component counts.
        :param tags: tell which component.
        :param parent_span: handed on.
        :yields: the span of the tracer before.
        """
        run = _CURRENT.get() if operation_name == "haystack.component.run" else None
        with self.before.trace(operation_name, tags, parent_span) as span:
            if run is None:
                yield span
                return
            name = (tags or {})["haystack.component.name"]
            with run.around.get(name, nullcontext)():
                start = time.perf_counter()
                yield span
                run.seconds[name] = time.perf_counter() - start

    def current_span(self) -> Span | None:
        """Return the span of the tracer before."""
        return self.before.current_span()


@dataclass
class _Run:
    around: Around
    seconds: dict[str, float] = field(default_factory=dict)


_CURRENT: ContextVar[_Run | None] = ContextVar("run", default=None)
