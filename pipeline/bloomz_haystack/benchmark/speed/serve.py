"""Services and numbers of clients -> throughput, latencies and refusals of each, in one interleaved run.

A client sends a question, reads the whole answer, sends the next. No two questions are alike, and all services must
find the same passages before any is timed.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bloomz_haystack.benchmark.speed.memory import peak_memory
from bloomz_haystack.benchmark.speed.services import HAYHOOKS, OURS, RunningService, running_services
from bloomz_haystack.files.markdown import markdown_table
from bloomz_haystack.indexing.index import index_files

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION_FORMS = (
    "Combien d'heures de sommeil faut-il à un adulte de {} ans ?",
    "How many hours of sleep does an adult of {} need?",
    "Que faire si la banque refuse ma carte {} fois ?",
    "What happens when my bank card is refused {} times?",
    "Le train pollue-t-il moins que l'avion sur {} km ?",
    "Is the train cleaner than the plane over {} miles?",
    "L'assurance habitation paie-t-elle {} euros de dégâts des eaux ?",
    "Does home insurance pay {} pounds of water damage?",
)


class ServeOptions(NamedTuple):
    """What to measure."""

    clients: tuple[int, ...] = (1, 8, 32)
    seconds: float = 5.0  # of each measurement
    rounds: int = 2
    hayhooks: Path | None = None  # Python that has it
    store: Path | None = None  # None: of the example passages


class Load(NamedTuple):
    """What the clients of one service saw in one round: seconds of each answer, requests refused (503), and failed."""

    seconds: list[float]
    refused: int
    failed: int
    wall: float


class ServeRow(NamedTuple):
    """A service under so many clients, all rounds together; `throughput` is the median over rounds."""

    service: str
    clients: int
    throughput: float  # answers a second
    p50: float  # seconds
    p95: float
    p99: float
    answers: int
    refused: int
    failed: int
    memory: int | None  # bytes, the peak of the process so far


def measure_serving(options: ServeOptions, folder: Path, say: Callable[[str], object]) -> list[ServeRow]:
    """Start the services, load them in turn, stop them.

    :param options: what to measure.
    :param folder: empty; holds the copies of the store.
    :param say: receives the progress, in words.
    :returns: a row for each number of clients and service.
    :raises ValueError: if a service does not start, or finds other passages than ours.
    """
    store = options.store
    if store is None:
        store = folder / "store"
        index_files([EXAMPLES], store)
    with running_services(store, folder, options.hayhooks) as services:
        check_agreement(services)
        loads: dict[tuple[int, str], list[Load]] = {}
        memory: dict[tuple[int, str], int | None] = {}
        questions = distinct_questions()
        for number in range(options.rounds):
            for clients in options.clients:
                for service in services:
                    say(f"round {number + 1} of {options.rounds}: {clients} clients, {service.name}")
                    load = measure_load(service, clients, options.seconds, questions)
                    loads.setdefault((clients, service.name), []).append(load)
                    memory[clients, service.name] = peak_memory(service.process)
    return [serve_row(name, clients, rounds, memory[clients, name]) for (clients, name), rounds in loads.items()]


def check_agreement(services: Sequence[RunningService]) -> None:
    """Ask every service the same.

    :param services: at least one.
    :raises ValueError: if one finds other passages than the first.
    """
    for form in QUESTION_FORMS:
        expected = services[0].passages(form.format(7))
        for service in services[1:]:
            if service.passages(form.format(7)) != expected:
                raise ValueError(f"{service.name} finds other passages than {services[0].name} for {form.format(7)!r}")


def distinct_questions() -> Iterator[str]:
    """Yield questions in both languages, none twice; threads take turns at a lock of their own."""
    for number in count(10):
        for form in QUESTION_FORMS:
            yield form.format(number)


def measure_load(service: RunningService, clients: int, seconds: float, questions: Iterator[str]) -> Load:
    """Let clients ask for a while; each finishes its last question.

    :param service: that runs.
    :param clients: at once, each with a connection of its own.
    :param seconds: after which none begins another question.
    :param questions: taken from in turn.
    :returns: what they saw.
    """
    taking, took, statuses = threading.Lock(), list[float](), list[int]()
    stop = time.perf_counter() + seconds

    def client() -> None:
        connection = service.connect()
        while time.perf_counter() < stop:
            with taking:
                question = next(questions)
            start = time.perf_counter()
            try:
                status, _ = service.ask(connection, question)
            except OSError:
                status = 0
                connection.close()
            statuses.append(status)
            if status == 200:
                took.append(time.perf_counter() - start)
            elif status == 503:
                time.sleep(0.05)  # a client that is asked to come back does not come back at once
        connection.close()

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for done in [threads.submit(client) for _ in range(clients)]:
            done.result()
    refused = statuses.count(503)
    return Load(took, refused, len(statuses) - refused - len(took), time.perf_counter() - start)


def serve_row(name: str, clients: int, rounds: Sequence[Load], memory: int | None) -> ServeRow:
    """Put rounds together.

    :param name: of the service.
    :param clients: at once.
    :param rounds: at least one.
    :param memory: bytes.
    :returns: the row; percentiles are NaN if there was no answer.

    >>> serve_row("a", 2, [Load([0.1, 0.3], 1, 0, 2.0), Load([0.2], 0, 1, 1.0)], None)[2:9]
    (1.0, 0.2, 0.29, 0.298, 3, 1, 1)
    """
    seconds = [one for load in rounds for one in load.seconds]
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]).round(6).tolist() if seconds else [float("nan")] * 3
    throughput = statistics.median(len(load.seconds) / load.wall for load in rounds)
    refused, failed = sum(load.refused for load in rounds), sum(load.failed for load in rounds)
    return ServeRow(name, clients, throughput, p50, p95, p99, len(seconds), refused, failed, memory)


def serve_markdown(rows: Sequence[ServeRow], options: ServeOptions) -> str:
    """Return the table for people.

    :param rows: measured.
    :param options: of the measurement.
    :returns: Markdown.
    """
    heads = ["clients", "service", "answers/s", "p50 ms", "p95 ms", "p99 ms", "refused", "failed", "peak memory"]
    cells = [
        [
            str(row.clients),
            row.service,
            f"{row.throughput:.1f}",
            *(f"{1000 * point:.0f}" for point in (row.p50, row.p95, row.p99)),
            str(row.refused),
            str(row.failed),
            "" if row.memory is None else f"{row.memory / 1e6:.0f} MB",
        ]
        for row in rows
    ]
    setting = (
        f"The same pipeline (embed, retrieve, rank, mark the sentence) behind each service, one process each, on "
        f"127.0.0.1; {options.rounds} interleaved rounds of {options.seconds:g} s, no question twice."
    )
    missing = "" if options.hayhooks else f" {HAYHOOKS}: not available here (--hayhooks-python)."
    return (
        f"{setting}{missing} {OURS} refuses (503) what it cannot queue.\n\n{markdown_table(heads, cells, numbers=True)}"
    )
