"""Calls of several threads -> one call: what waits while the engine computes is computed together next.

Enters: the inputs of each thread. Leaves: its outputs, or its own error. A free engine starts at once, so nobody waits
for a batch to fill; those that wait are served in the order in which they came. Knows neither models nor texts: an
input has a length, and its output does not depend on its neighbours.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence, Sized
from threading import Event, Lock
from typing import Generic, TypeVar

import torch

from haystack_integrations.common.bloomz.forking import renew_after_fork

Input = TypeVar("Input", bound=Sized)
Outputs = TypeVar("Outputs", bound=Sequence | torch.Tensor)
_Compute = Callable[[list[Input]], Outputs]


class SharedCalls(Generic[Input, Outputs]):
    """One function, called from any number of threads; as many of them compute at once as there are cores for."""

    def __init__(self, most: int) -> None:
        """Start with a free engine.

        :param most: total length of the inputs that are computed together; a call longer than that runs alone.
        """
        self.most = most
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self._cores = cores or 1
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget who computes and who waits: none of those threads is there in a forked child."""
        self._lock = Lock()
        self._waiting: deque[_Call[Input, Outputs]] = deque()
        self._computing = 0

    def run(self, compute: _Compute[Input, Outputs], inputs: Sequence[Input]) -> Outputs:
        """Compute, alone or with others that wait.

        :param compute: gives one output for each input; the same function in every call.
        :param inputs: of this thread.
        :returns: their outputs, in order.
        :raises Exception: what `compute` raises for these inputs alone.
        """
        call = _Call[Input, Outputs](inputs)
        try:
            self._enter(call)
            while call.outputs is None:
                if not call.leads:
                    call.turn.wait()
                if call.leads:
                    self._lead(call, compute)
        finally:  # an interrupted thread too
            self._leave(call)
        return call.outputs

    def _enter(self, call: "_Call[Input, Outputs]") -> None:
        with self._lock:
            if self._computing < max(1, self._cores // torch.get_num_threads()):
                self._computing += 1
                call.leads = True
            else:
                self._waiting.append(call)

    def _lead(self, call: "_Call[Input, Outputs]", compute: _Compute[Input, Outputs]) -> None:
        call.followers = self._followers(call)
        batch = [call, *call.followers]
        try:
            outputs = compute([one for each in batch for one in each.inputs])
        except Exception:
            if not call.followers:
                raise
            for each in batch:  # whose error it was shows when each is computed alone
                each.alone = True
            with self._lock:
                self._take_back(call)
            return
        start = 0
        for each in batch:
            each.outputs = outputs[start : start + len(each.inputs)]  # type: ignore[assignment]  # a slice is of its kind
            start += len(each.inputs)

    def _followers(self, call: "_Call[Input, Outputs]") -> "list[_Call[Input, Outputs]]":
        """Return those next in line that fit in one batch with a call; the first that does not keeps its place."""
        followers: list[_Call[Input, Outputs]] = []
        room = self.most - call.length
        with self._lock:
            while self._waiting and not call.alone and not self._waiting[0].alone and self._waiting[0].length <= room:
                followers.append(self._waiting.popleft())
                room -= followers[-1].length
        return followers

    def _leave(self, call: "_Call[Input, Outputs]") -> None:
        with self._lock:
            call.left = True
            if call in self._waiting:
                self._waiting.remove(call)
            for follower in call.followers:
                if follower.outputs is not None:
                    follower.turn.set()
            self._take_back(call)
            if not call.leads:
                return
            if self._waiting:
                heir = self._waiting.popleft()
                heir.leads = True
                heir.turn.set()
            else:
                self._computing -= 1

    def _take_back(self, call: "_Call[Input, Outputs]") -> None:
        """Put followers without outputs at the head of the line again."""
        unserved = [follower for follower in call.followers if follower.outputs is None and not follower.left]
        self._waiting.extendleft(reversed(unserved))
        call.followers = []


class _Call(Generic[Input, Outputs]):
    """What one thread asks for."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.inputs = inputs
        self.length = sum(map(len, inputs))
        self.outputs: Outputs | None = None
        self.turn = Event()  # set when there are outputs, or the thread is to lead
        self.leads = False
        self.followers: list[_Call[Input, Outputs]] = []
        self.alone = False
        self.left = False
