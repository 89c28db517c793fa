"""One connection to PostgreSQL for each thread, so that no question waits for another; its errors are one line."""

import threading
from typing import Any
from weakref import WeakSet

from haystack.document_stores.errors import DocumentStoreError
from psycopg import Connection, Error


class PerThread:
    """An attribute of which each thread has its own; None until it sets it."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Keep the attribute's name.

        :param owner: whose it is.
        :param name: of the attribute.
        """
        self.name = name

    def __get__(self, owner: Any, kind: type | None = None) -> Any:  # noqa: ANN401
        """Return the value of this thread.

        :param owner: has `threads`.
        :param kind: of the owner.
        :returns: the value.
        """
        return getattr(owner.threads, self.name, None)

    def __set__(self, owner: Any, value: object) -> None:  # noqa: ANN401
        """Set the value of this thread.

        :param owner: has `threads`.
        :param value: what to keep.
        """
        setattr(owner.threads, self.name, value)


class Threads(threading.local):
    """What each thread keeps for itself."""


def connect(address: str, opened: "WeakSet[Connection[Any]]") -> "Connection[Any]":
    """Open a connection.

    :param address: as libpq reads it.
    :param opened: the connection is added.
    :returns: the connection.
    :raises DocumentStoreError: if there is none to be had; with what the server said, never with the address.
    """
    try:
        connection = Connection.connect(address)
    except Error as error:
        reason = " ".join(str(error).split())
        raise DocumentStoreError(f"no connection to PostgreSQL (PG_CONN_STR says where): {reason}") from error
    opened.add(connection)
    return connection
