"""Which prefixes are kept, within a budget of bytes: the longest unused go first.

Enters: keys and token counts. Leaves: states to read from or to write to. What is being read or written counts as kept
and does not go, so the bytes never pass the budget; a context that finds no room is not kept. Several threads may share
a cache. Knows neither models nor texts.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from haystack_integrations.common.bloomz.forking import ForkSafeLock
from haystack_integrations.common.bloomz.prefix_cache.folder import FILE_OVERHEAD, PrefixFolder
from haystack_integrations.common.bloomz.prefix_cache.states import PrefixShape, PrefixStates, empty_states

logger = logging.getLogger(__name__)

_UNITS = {"": 1, "B": 1, **{unit + "B": 1000**n for n, unit in enumerate("KMGT", start=1)}}
_UNITS |= {unit + "IB": 1024**n for n, unit in enumerate("KMGT", start=1)}


class Wanted(NamedTuple):
    """A context: its key, and how many of its tokens are needed."""

    key: str
    tokens: int


class PrefixStats(NamedTuple):
    """Counts since the cache was made; `bytes` and `entries` are those of now."""

    hits: int
    misses: int
    entries: int
    bytes: int
    evictions: int
    budget: int


@dataclass
class _Entry:
    nbytes: int
    states: PrefixStates | None  # None: in the folder, not mapped yet
    users: int = 0


def parse_bytes(value: int | str) -> int:
    """Read a number of bytes.

    :param value: 2000000000, "2GB", "512 MB" (powers of 1,000) or "2GiB" (powers of 1,024).
    :returns: bytes.
    :raises ValueError: if it is something else, or not positive.

    >>> parse_bytes("1.5 GB"), parse_bytes("2GiB")
    (1500000000, 2147483648)
    """
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value), re.IGNORECASE)
    unit = _UNITS.get(parts[2].upper()) if parts else None
    number = 0 if parts is None or unit is None or isinstance(value, bool) else int(float(parts[1]) * unit)
    if number <= 0:
        raise ValueError(f'prefix_cache must be a number of bytes, as 2000000000, "512MB" or "2GB", but got {value!r}')
    return number


class PrefixCache:
    """Prefixes in memory, or in a folder."""

    def __init__(self, budget: int, folder: PrefixFolder | None = None) -> None:
        """Take over what the folder holds.

        :param budget: bytes, of memory or of the folder.
        :param folder: where to keep them across restarts; None keeps them in memory.
        """
        self.budget = budget
        self._folder = folder
        self._writes = folder is not None
        self._lock = ForkSafeLock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the longest unused first
        self._being_made: dict[str, int] = {}  # bytes
        self._bytes = self._hits = self._misses = self._evictions = 0
        self._adopt()

    def stats(self) -> PrefixStats:
        """Return how it did.

        :returns: the counts.
        """
        with self._lock:
            counts = (self._hits, self._misses, len(self._entries), self._bytes, self._evictions)
        return PrefixStats(*counts, self.budget)

    def clear(self) -> None:
        """Forget all that is not in use, in the folder too."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if not entry.users]:
                self._drop(key)

    @contextmanager
    def hold(self, wanted: Sequence[Wanted]) -> Iterator[list[PrefixStates | None]]:
        """Return the states that are kept; they stay while they are held.

        :param wanted: B contexts; the same may come twice.
        :yields: B states of at least the tokens needed, None for each that is not kept.
        """
        entries: list[_Entry | None] = []
        try:
            entries += (self._take(*one) for one in wanted)
            yield [entry.states if entry else None for entry in entries]
        finally:
            with self._lock:
                for entry in entries:
                    if entry:
                        entry.users -= 1

    def holds(self, one: Wanted) -> bool:
        """Check membership without updating the statistics.

        :param one: a context.
        :returns: whether it is kept, and long enough.
        """
        entry = self._take(*one, counted=False)
        if entry:
            with self._lock:
                entry.users -= 1
        return entry is not None

    @contextmanager
    def make(
        self, wanted: Sequence[Wanted], shape: PrefixShape, device: torch.device
    ) -> Iterator[list[PrefixStates | None]]:
        """Yield room to write states to; they are kept when all went well.

        :param wanted: B contexts that are not kept, or not long enough.
        :param shape: of the model.
        :param device: where the model is.
        :yields: B states to be written, None for each that finds no room or that someone else is about to write.
        """
        self._adopt()
        places = [place for place, one in enumerate(wanted) if self._reserve(one, shape.bytes_of(one.tokens))]
        made: list[PrefixStates | None] = [None] * len(wanted)
        whole = False
        try:
            for place in places:
                made[place] = empty_states(shape, wanted[place].tokens, device)
            yield made
            whole = True
        finally:
            for place in places:
                self._settle(wanted[place].key, made[place] if whole else None)

    def _take(self, key: str, tokens: int, *, counted: bool = True) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key) or self._found_in_folder(key)
            if entry:
                entry.users += 1  # from here on it does not go
        if entry and entry.states is None:
            entry.states = self._folder.load(key)  # type: ignore[union-attr]
        states = entry.states if entry else None
        hit = states is not None and states.tokens >= tokens
        with self._lock:
            self._hits += counted and hit
            self._misses += counted and not hit
            if hit and key in self._entries:
                self._entries.move_to_end(key)
            if entry and not hit:
                entry.users -= 1
                if states is None and self._entries.get(key) is entry:  # not what another thread has made since
                    self._drop(key)
        if hit and self._folder:
            self._folder.touch(key)
        return entry if hit else None

    def _reserve(self, one: Wanted, nbytes: int) -> bool:
        nbytes += FILE_OVERHEAD if self._folder else 0
        with self._lock:
            old = self._entries.get(one.key)
            known = old is not None and (old.users or old.states is None or old.states.tokens >= one.tokens)
            if known or one.key in self._being_made or nbytes > self.budget:
                return False
            if old:
                self._drop(one.key)
            if not self._make_room(nbytes):
                return False
            self._being_made[one.key] = nbytes
            self._bytes += nbytes
            return True

    def _make_room(self, nbytes: int) -> bool:
        while self._bytes + nbytes > self.budget:
            unused = next((key for key, entry in self._entries.items() if not entry.users), None)
            if unused is None:
                return False
            self._drop(unused)
            self._evictions += 1
        return True

    def _settle(self, key: str, states: PrefixStates | None) -> None:
        if states is not None and not states.is_finite():
            logger.warning(
                "a context has keys beyond the range of %s and is not kept: use 'float32'", states.keys.dtype
            )
            states = None
        if states is not None and self._writes:
            states = self._write(key, states)
        nbytes = (self._folder and self._folder.size(key)) or (states.nbytes if states else 0)
        with self._lock:
            self._bytes -= self._being_made.pop(key)
            if states is not None:
                self._entries[key] = _Entry(nbytes, states)
                self._bytes += nbytes

    def _write(self, key: str, states: PrefixStates) -> PrefixStates:
        try:
            return self._folder.save(key, states)  # type: ignore[union-attr]
        except OSError as error:
            if self._writes:
                logger.warning("no more contexts go into the prefix cache's folder, only into memory: %s", error)
            self._writes = False
            return states

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry:
            self._bytes -= entry.nbytes
            if self._folder:
                self._folder.remove(key)

    def _found_in_folder(self, key: str) -> _Entry | None:
        """Another process may have written it since the last look."""
        size = self._folder.size(key) if self._folder else None
        if size is None or key in self._being_made or not self._make_room(size):
            return None
        return self._add(key, size)

    def _adopt(self) -> None:
        """Count what is in the folder now, and let go of what other processes removed."""
        if self._folder is None:
            return
        sizes = self._folder.scan()
        with self._lock:
            for key in [key for key in self._entries if key not in sizes]:
                if not self._entries[key].users and self._writes:
                    self._bytes -= self._entries.pop(key).nbytes
            for key, size in sizes.items():
                if key not in self._entries and key not in self._being_made:
                    self._add(key, size)
            self._make_room(0)

    def _add(self, key: str, size: int) -> _Entry:
        entry = self._entries[key] = _Entry(size, None)
        self._bytes += size
        return entry
