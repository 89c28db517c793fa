"""A bounded pool of connections to PostgreSQL; what the server says against a call is one line.

Why not psycopg_pool: it was measured and is as fast, but a question to a server that is down, or with a wrong password,
waits for the pool's timeout and then does not learn why (5 s in place of 1 ms), and its helper threads do not survive a
fork.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from haystack.document_stores.errors import DocumentStoreError
from psycopg import Connection, Error

from haystack_integrations.common.bloomz.forking import renew_after_fork


class Turns:
    """Lets so many threads in, the others after one leaves, in the order in which they came.

    A semaphore lets the thread that has just left in again before those that wait: of 32 threads at one connection some
    waited five times as long as others.
    """

    def __init__(self, size: int) -> None:
        """Start empty.

        :param size: most threads inside.
        """
        self._lock = threading.Lock()
        self._free = size
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()  # until who leaves releases it
        except BaseException:
            self._give_up(turn)
            raise

    def _give_up(self, turn: threading.Lock) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self.__exit__()  # it came at this moment

    def __exit__(self, *_: object) -> None:
        """Let the next one in."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class Pool:
    """Lends connections, each to one thread at a time; who comes when all are lent waits."""

    def __init__(self, connect: Callable[[], "Connection[Any]"], size: int) -> None:
        """Start without a connection.

        :param connect: opens one.
        :param size: most connections at a time.
        """
        self._connect, self._size = connect, size
        self._inherited: list[object] = []
        self._start()
        renew_after_fork(self)

    def _start(self) -> None:
        self._idle: list[Connection[Any]] = []
        self._lock = threading.Lock()
        self._turns = Turns(self._size)
        self._held = threading.local()

    def renew(self) -> None:
        """Start afresh in a forked child; the parent's connections are kept, so that nothing closes them."""
        self._inherited.append((self._idle, self._held))
        self._start()

    @contextmanager
    def lent(self) -> Iterator["Connection[Any]"]:
        """Lend a connection: the one that this thread holds already, an idle one that works, or a new one.

        :yields: the connection.
        :raises DocumentStoreError: if there is none to be had.
        """
        if held := getattr(self._held, "connection", None):
            yield held
            return
        with self._turns:
            home = self._idle
            connection = self._held.connection = self._working() or self._connect()
            try:
                yield connection
            finally:
                self._held.connection = None
                self._take_back(connection, home)

    def _working(self) -> "Connection[Any] | None":
        while connection := self._pop():
            try:
                connection.execute("")
            except Error:
                connection.close()
            else:
                return connection
        return None

    def _pop(self) -> "Connection[Any] | None":
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _take_back(self, connection: "Connection[Any]", home: "list[Connection[Any]]") -> None:
        with self._lock:
            # Another list is idle now where the pool was closed meanwhile.
            if home is self._idle and not connection.closed:
                home.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the connections, those that are lent when they come back; the next use opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class Rows(threading.local):
    """Says how rows are read; keeps how many rows the last statement of a thread found or changed.

    It stands where pgvector-haystack keeps a cursor of its only connection.
    """

    rowcount = -1

    def __init__(self, factory: Any) -> None:  # noqa: ANN401
        """Keep the factory.

        :param factory: psycopg's, of rows.
        """
        self.factory = factory


@contextmanager
def one_line(said: str) -> Iterator[None]:
    """Turn an error of PostgreSQL into one line.

    :param said: what could not be done.
    :yields: nothing.
    :raises DocumentStoreError: with what the server said.
    """
    try:
        yield
    except Error as error:
        raise DocumentStoreError(f"{said}: {' '.join(str(error).split())}") from error
