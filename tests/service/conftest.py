"""A real service on 127.0.0.1: uvicorn in a thread, a free port, the bundled pair, the example passages."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from bloomz_haystack.indexing.index import index_files
from bloomz_haystack.service.app import create_app
from bloomz_haystack.service.settings import ServeSettings
from bloomz_haystack.settings import IndexSettings

EXAMPLES = Path(__file__).parents[2] / "pipeline/bloomz_haystack/examples"

SECONDS = 600  # an end for what hangs, also on a slow machine

Serve = Callable[..., "Served"]


class Served(httpx.Client):
    """A client of one running service."""

    def __init__(self, port: int, app: object) -> None:
        # A connection is let go before the service closes it, after 5 seconds: else a request could meet the end.
        limits = httpx.Limits(keepalive_expiry=1)
        super().__init__(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS, limits=limits)
        self.app = app


@contextmanager
def running(settings: ServeSettings) -> Iterator[Served]:
    """Run a service in a thread until its models are warm; stop it as SIGTERM does."""
    app = create_app(settings)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with Served(listener.getsockname()[1], app) as client:
            deadline = time.monotonic() + SECONDS
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline, app.state.service.failure
                time.sleep(0.02)
            yield client
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listener.close()


@pytest.fixture(scope="session")
def example_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the example files, with words; only read."""
    store = tmp_path_factory.mktemp("service") / "store"
    index_files([EXAMPLES], store, IndexSettings(hybrid=True))
    return store


@pytest.fixture(scope="session")
def served(example_store: Path) -> Iterator[Served]:
    """A service that is only read from."""
    with running(ServeSettings(example_store)) as client:
        yield client


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that anything is sent to."""
    store = tmp_path_factory.mktemp("fuzzed") / "store"
    index_files([EXAMPLES / "sleep.txt"], store, IndexSettings())
    with running(ServeSettings(store)) as client:
        yield client


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start a service on a store of its own; settings by name."""
    open_services: list[AbstractContextManager[Served]] = []

    def start(store: Path | None = None, **options: object) -> Served:
        if store is None:
            store = tmp_path / f"store-{len(open_services)}"
            index_files([EXAMPLES / "sleep.txt", EXAMPLES / "sommeil.txt"], store, IndexSettings())
        service = running(replace(ServeSettings(store), **options))  # type: ignore[arg-type]
        open_services.append(service)
        return service.__enter__()

    yield start
    for service in reversed(open_services):
        service.__exit__(None, None, None)
