"""Units of work -> parts, by `BlockEncoder`s that are actors of Ray: on the cores and GPUs of many machines.

Plain actors and not Ray Data: a unit is a call and its parts come back as files, so there is no table to shuffle, and
nothing of Ray's own that waits for a CPU while actors hold all of them (ray #44687 hangs so). A unit whose actor died
goes to another one, less the parts that have come; actors are added as long as there is room for them.
"""

import logging
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from bloomz_haystack.cluster.encoding import BlockEncoder, ModelFacts, UnitTask, sha256_if_there
from bloomz_haystack.cluster.parts import EmbeddedPart
from bloomz_haystack.settings import EmbedSettings

logger = logging.getLogger(__name__)

LOCAL = "local"  # in place of an address: a Ray of this process's own
PATIENCE = 120.0  # seconds until an actor must have found a machine, where none works yet
DEATHS = 3  # of a unit's actors, before the unit is taken to be the cause
LOCAL_BYTES = 256 * 2**20  # of Ray's object store; a part has a few megabytes
PASSED_ON = ("HF_HUB_OFFLINE", "HAYSTACK_TELEMETRY_ENABLED", "OMP_WAIT_POLICY")  # environment of the actors


class _Starting(NamedTuple):
    """An actor that loads the model, and what comes when it has found a machine."""

    actor: Any
    placed: Any


class EncoderActor(BlockEncoder):
    """A `BlockEncoder` that reads relative paths as the process that started the run does."""

    def __init__(self, settings: EmbedSettings, folder: str) -> None:
        """Keep the settings; the model is loaded at its first use.

        :param settings: of the run.
        :param folder: of that process; on another machine it may be missing.
        """
        with suppress(OSError):
            os.chdir(folder)
        super().__init__(settings)


class RayEncoders:
    """A `PartMaker` on a Ray cluster; each actor holds the model, on one CPU or one GPU. One CPU is left free."""

    def __init__(self, settings: EmbedSettings, address: str, *, cpus: int | None = None) -> None:
        """Connect to a cluster.

        :param settings: of the run; inputs and a model folder lie at the same path on every machine.
        :param address: "local" starts Ray here, "auto" finds the one that runs on this machine, or HOST:PORT.
        :param cpus: with "local": CPUs that Ray may use; None: all.
        :raises ImportError: if Ray is not installed.
        :raises ValueError: if there is no cluster at the address, it has no CPU left, or no GPU although one is wanted.
        """
        BlockEncoder(settings)  # checks them
        self.ray, self._own = _connected(address, cpus)
        self.settings = settings
        self.gpus = settings.device != "cpu" and self.ray.cluster_resources().get("GPU", 0) >= 1
        self._starting: dict[Any, _Starting] = {}  # by its facts to come
        self._idle: list[Any] = []
        self._working: dict[Any, tuple[Any, UnitTask]] = {}  # actor and unit by the parts to come
        self._returned: deque[UnitTask] = deque()  # units that nobody works on
        self._deaths: Counter[int] = Counter()  # by unit; -1: of actors that started
        self._facts: ModelFacts | None = None
        self._sha256 = lru_cache(maxsize=1024)(sha256_if_there)  # the parts of a large file all say it
        try:
            self._check_room()
        except ValueError:
            self.close()
            raise

    def facts(self) -> ModelFacts:
        """Return what is known of the model; the first actor loads it."""
        if self._facts is None:
            self._start_actor()
        while self._facts is None:
            self._advance()
        return self._facts

    def parts(self, tasks: Iterable[UnitTask], run: str) -> Iterator[EmbeddedPart]:
        """Hand units to the actors that are free.

        :param tasks: the units.
        :param run: fingerprint of the run.
        :yields: the parts, in the order in which they are done.
        :raises ValueError: if an actor reads another file or another model than this process, or a unit kills each
            actor that takes it.
        """
        self.facts()
        waiting = iter(tasks)
        while True:
            task = self._returned.popleft() if self._returned else next(waiting, None)
            if task and self._idle:
                self._give(self._idle.pop(), task, run)
                continue
            if task:
                self._returned.appendleft(task)
                self._grow()
            elif not self._working:
                return
            if part := self._advance():
                yield part

    def close(self) -> None:
        """Stop the actors, and leave the cluster."""
        busy = [actor for actor, _ in (*self._starting.values(), *self._working.values())]
        for actor in (*busy, *self._idle):
            self.ray.kill(actor)
        if self._own:
            self.ray.shutdown()

    def _check_room(self) -> None:
        if not self.gpus and (self.settings.device or "").startswith("cuda"):
            raise ValueError(f"--device {self.settings.device}: the Ray cluster has no GPU")
        if self._room_for(spare_cpus=0) < 1:
            raise ValueError(f"Ray has no room for an actor: {self._room()}; wait, or add a machine")

    def _grow(self) -> None:
        """Start an actor if a CPU beside it stays free, or if there is none at all."""
        if len(self._starting) < self._room_for(spare_cpus=1) or not (self._working or self._starting):
            self._start_actor()

    def _start_actor(self) -> None:
        needs = {"num_cpus": 1, "num_gpus": 1} if self.gpus else {"num_cpus": 1}
        actors = self.ray.remote(EncoderActor).options(**needs, scheduling_strategy="SPREAD")
        actor = actors.remote(self.settings, os.getcwd())
        placed = actor.__ray_ready__.remote()
        self._starting[actor.facts.remote()] = _Starting(actor, placed)

    def _give(self, actor: Any, task: UnitTask, run: str) -> None:  # noqa: ANN401
        # An actor stays at most two parts ahead of this process: no memory fills up.
        ahead = {"num_returns": "streaming", "_generator_backpressure_num_objects": 2}
        self._working[actor.parts.options(**ahead).remote([task], run)] = actor, task

    def _advance(self) -> EmbeddedPart | None:
        """Wait for one thing to happen: a part, a unit done, an actor ready, an actor dead."""
        pending = [*self._working, *self._starting]
        ready, _ = self.ray.wait(pending, timeout=PATIENCE, fetch_local=False)
        if not ready:
            self._check_hope()
            return None
        try:
            if ready[0] in self._working:
                return self._part(ready[0])
            self._welcome(ready[0])
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None
        except self.ray.exceptions.RayError as error:  # the actor died, or what it made went with its machine
            self._bury(ready[0], str(error))
        return None

    def _check_hope(self) -> None:
        """Go on waiting for actors that compute or load the model; give up if there is no room for any."""
        placed = [one.placed for one in self._starting.values()]
        if not self._working and not self.ray.wait(placed, timeout=0)[0]:
            raise ValueError(f"no actor of Ray found room within {PATIENCE:.0f} seconds: {self._room()}")

    def _part(self, parts: Any) -> EmbeddedPart | None:  # noqa: ANN401
        actor, task = self._working[parts]
        try:
            part: EmbeddedPart = self.ray.get(next(parts))
        except StopIteration:
            del self._working[parts]
            self._idle.append(actor)
            return None
        self._working[parts] = actor, task._replace(done=task.done | {part.facts.block})
        for file, there in zip(task.unit.files, part.facts.files, strict=True):
            if there["sha256"] != self._sha256(file.path):
                raise ValueError(f"a machine of the cluster has no {file.path}, or another one: share the folder")
        return part

    def _welcome(self, facts: Any) -> None:  # noqa: ANN401
        given = ModelFacts(*self.ray.get(facts))
        first = self._facts or given
        if odd := [
            f"{name} {one} and {two}" for name, one, two in zip(given._fields, first, given, strict=True) if one != two
        ]:
            raise ValueError(f"machines of the cluster differ: {', '.join(odd)}")
        self._facts = first
        self._idle.append(self._starting.pop(facts).actor)

    def _bury(self, one: Any, reason: str) -> None:  # noqa: ANN401
        """Forget an actor that died; its unit goes to another one."""
        actor, task = self._working.pop(one) if one in self._working else (self._starting.pop(one).actor, None)
        self.ray.kill(actor)
        unit = task.unit.number if task else -1
        self._deaths[unit] += 1
        if self._deaths[unit] == DEATHS:
            what = f"unit {unit} ({_name_of(task)})" if task else "loading the model"
            raise ValueError(f"{what} ended {DEATHS} actors of Ray, for want of memory perhaps: {reason}")
        logger.warning("an actor of Ray died: what it was to do goes to another one")
        if task:
            self._returned.append(task)
        elif self._facts is None:
            self._start_actor()

    def _room_for(self, spare_cpus: int) -> int:
        """Return how many more actors there is room for."""
        free = self.ray.available_resources()
        cpus = int(free.get("CPU", 0)) - spare_cpus
        return min(cpus, int(free.get("GPU", 0))) if self.gpus else cpus

    def _room(self) -> str:
        free, there = self.ray.available_resources(), self.ray.cluster_resources()
        kinds = [f"{free.get(kind, 0):.0f} of {there.get(kind, 0):.0f} {kind}s are free" for kind in ("CPU", "GPU")]
        return ", ".join(kinds[: 1 + self.gpus])


def _name_of(task: UnitTask) -> str:
    return str(task.unit.rows.path if task.unit.rows else task.unit.files[0].path)


def _connected(address: str, cpus: int | None) -> tuple[Any, bool]:
    """Return the module, connected, and whether it was not before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's new way; the old one warns
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise ImportError('--ray needs Ray: pip install "bloomz-haystack[ray]"') from error
    if ray.is_initialized():  # by the user, in a notebook
        return ray, False
    if "://" in address:
        raise ValueError(
            f"--ray must be local, auto or HOST:PORT, but got {address}: run it on a machine of the cluster"
        )
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == LOCAL:
        options |= {"num_cpus": cpus, "object_store_memory": LOCAL_BYTES, "include_dashboard": False}
    stopped = signal.getsignal(signal.SIGTERM)
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        host, _, port = address.rpartition(":")
        if host:  # Ray itself would go on trying for minutes, and say so
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, runtime_env={"env_vars": environment}, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"no Ray cluster at {address} ({reason}): start one with ray start --head, or give local"
        ) from None
    with suppress(ValueError):  # of another thread than the first
        signal.signal(signal.SIGTERM, stopped)  # Ray has its own, which would skip what is to be cleaned up
    return ray, True
