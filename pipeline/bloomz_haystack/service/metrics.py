"""What is counted while the service runs -> Prometheus' text, at `GET /metrics`."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bloomz_haystack.service.jobs import Jobs
from bloomz_haystack.service.models import Models
from bloomz_haystack.service.slots import Slots

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "bloomz_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["door", "status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.steps = Histogram(
            "bloomz_step_seconds",
            "Seconds of each step of a search.",
            ["step"],
            buckets=SECONDS,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return Prometheus' text."""
        return generate_latest(self.registry)


class StateCollector(Collector):
    """Reads queue, store and prefix cache when it is asked."""

    def __init__(self, slots: Sequence[Slots], jobs: Jobs, models: Models) -> None:
        """Keep what is read.

        :param slots: of the service.
        :param jobs: of the service.
        :param models: of the service.
        """
        self._slots, self._jobs, self._models = slots, jobs, models

    def collect(self) -> Iterator[Metric]:
        """Read the numbers.

        :yields: a family of one number each.
        """
        slots, models = self._slots, self._models
        waiting, in_flight = sum(some.waiting for some in slots), sum(some.in_flight for some in slots)
        refused = sum(some.refused for some in slots)
        yield GaugeMetricFamily("bloomz_ready", "1 once the models are loaded.", models.ready.is_set())
        yield GaugeMetricFamily("bloomz_queue_length", "Requests that wait for a slot.", waiting)
        yield GaugeMetricFamily("bloomz_in_flight", "Requests that are computed.", in_flight)
        yield CounterMetricFamily("bloomz_refused", "Requests refused because the queue was full.", refused)
        yield GaugeMetricFamily("bloomz_jobs_waiting", "Uploads that wait to be indexed.", self._jobs.waiting)
        yield CounterMetricFamily("bloomz_embedded", "Passages embedded for uploads.", self._jobs.embedded)
        yield GaugeMetricFamily("bloomz_passages", "Passages in the store.", models.store.count_documents())
        kept = models.prefix_cache()
        yield CounterMetricFamily("bloomz_prefix_cache_hits", "Passages found in the cache.", kept.get("hits", 0))
        yield CounterMetricFamily("bloomz_prefix_cache_misses", "Passages not found there.", kept.get("misses", 0))
        yield GaugeMetricFamily("bloomz_prefix_cache_bytes", "Memory that the cache takes.", kept.get("bytes", 0))
