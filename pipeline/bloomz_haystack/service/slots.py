"""Work for a bounded number of threads, a bounded queue before them, first come first served."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from bloomz_haystack.service.errors import ServiceError

Computed = TypeVar("Computed")


class Slots:
    """So many requests are computed, so many more wait, and the others are refused at once."""

    def __init__(self, slots: int, waiting: int) -> None:
        """Start with all slots free.

        :param slots: requests computed at the same time.
        :param waiting: requests that may wait.
        """
        self.most, self.most_waiting = slots, waiting
        self.in_flight = self.waiting = self.refused = 0
        self._free = asyncio.Semaphore(slots)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="answer")

    @asynccontextmanager
    async def taken(self, request: Request | None) -> AsyncIterator[None]:
        """Take a slot, after those who came before.

        :param request: of a client whose body was read; if it has gone meanwhile nothing is computed. None: not known.
        :yields: nothing.
        :raises ServiceError: if the queue is full, or the client has gone.
        """
        if self._free.locked() and self.waiting >= self.most_waiting:
            self.refused += 1
            raise ServiceError(503, f"{self.waiting} requests are waiting already: try again later", retry_after=1)
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        try:
            if request is not None and await request.is_disconnected():
                raise ServiceError(499, "the client has gone")
            self.in_flight += 1
            try:
                yield
            finally:
                self.in_flight -= 1
        finally:
            self._free.release()

    async def run(self, request: Request | None, work: Callable[[], Computed]) -> Computed:
        """Compute in a slot, in a thread.

        :param request: of a client; None: not known.
        :param work: what to compute.
        :returns: what it gave.
        """
        async with self.taken(request):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let the threads finish and end."""
        self._threads.shutdown()
