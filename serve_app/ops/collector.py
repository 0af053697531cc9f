"""Reads every router again and again: what it counts goes into the history, its state of now is kept for the page."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from serve_app.messages.snapshot import HotPrefix, RouterSnapshot
from serve_app.ops.history import History, HistoryError, Reading, Series
from serve_app.telemetry.metrics import RANK, TENANT

logger = logging.getLogger("ray.serve")

READ_S = 2.0
"""A call takes a router's time whatever it asks, and no one sees the difference to once a second."""
PREFIXES_S = 5.0
FORGET_S = 3600.0
MAX_PREFIXES = 12
NAME_BYTES = 8
KEY_BYTES = 32

Result = TypeVar("Result")


class Cluster(Protocol):
    """The cluster that is read."""

    async def applications(self) -> list[str]:
        """The names of the applications that have routers."""

    async def snapshots(self, application: str, num_prefixes: int) -> list[RouterSnapshot]:
        """A snapshot of each router that answers, with at most `num_prefixes` of the hottest prefixes."""


class Collector:
    """Keeps what routers say of now, and writes what they count. Call `run` once.

    Args:
        cluster: the cluster that is read.
        path: of the history's file; None for a history that does not outlive the process.
        clock: Unix time in seconds.
        steady_clock: seconds, from any start; it must not go back, nor be set.
        prefix_key: for the names of prefixes; None makes one.

    """

    def __init__(
        self,
        cluster: Cluster,
        path: Path | None,
        *,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
        prefix_key: bytes | None = None,
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._clock = clock
        self._steady_clock = steady_clock
        self._prefix_key = secrets.token_bytes(KEY_BYTES) if prefix_key is None else prefix_key
        self._history: History | None = None
        self._fault: str | None = None
        self._prefixes_at_s = self._forgot_at_s = float("-inf")
        self.application_to_snapshots: dict[str, list[RouterSnapshot]] = {}
        self.application_to_prefixes: dict[str, list[HotPrefix]] = {}
        self.read_at_s: float | None = None
        """Unix time at which all this was read; None before the first time."""

    @property
    def fault(self) -> str | None:
        """Why the history is not being written; None if it is."""
        return self._fault

    @property
    def now_s(self) -> float:
        """Unix time of now."""
        return self._clock()

    async def run(self) -> None:
        """Read until cancelled. What fails is tried again the next time."""
        try:
            while True:
                await self.read()
                await asyncio.sleep(READ_S)
        finally:
            if self._history is not None:
                self._history.close()

    async def read(self) -> None:
        """Read every router once, and write the history."""
        names = await self._cluster.applications()
        started_s = self._steady_clock()
        num_prefixes = MAX_PREFIXES if started_s - self._prefixes_at_s >= PREFIXES_S else 0
        readings = await asyncio.gather(*(self._cluster.snapshots(name, num_prefixes) for name in names))
        # An application whose routers do not answer just now is still there.
        self.application_to_snapshots = {
            name: list(snapshots) or list(self.application_to_snapshots.get(name, ()))
            for name, snapshots in zip(names, readings, strict=True)
        }
        self.read_at_s = self._clock()
        if num_prefixes:
            # One router is enough: they tell each other of every decision.
            self.application_to_prefixes = {
                name: [self._named(prefix) for prefix in snapshots[0].hot_prefixes]
                for name, snapshots in zip(names, readings, strict=True)
                if snapshots
            }
            self._prefixes_at_s = started_s
        await self._write(self.read_at_s)

    async def ask(self, question: Callable[[History], Result]) -> Result | None:
        """Ask the history in a thread; None while there is none."""
        history = self._history
        return None if history is None else await asyncio.to_thread(question, history)

    def _named(self, prefix: HotPrefix) -> HotPrefix:
        """The prefix with a name in place of its hash, which stays in this process."""
        # Whoever sees a block's hash can try texts until one has it, as nothing secret is in it. The name is made with
        # a key that no one sees, and is the same from whichever router the hash comes.
        name = blake2b(prefix.hash.encode(), key=self._prefix_key, digest_size=NAME_BYTES).hexdigest()
        return msgspec.structs.replace(prefix, hash=name)

    async def _write(self, now_s: float) -> None:
        readings = [
            reading
            for application, snapshots in self.application_to_snapshots.items()
            for snapshot in snapshots
            for reading in _readings(application, snapshot)
        ]
        started_s = self._steady_clock()
        is_time_to_forget = started_s - self._forgot_at_s >= FORGET_S
        try:
            await asyncio.to_thread(self._write_history, readings, now_s, forget=is_time_to_forget)
        except HistoryError as error:
            if str(error) != self._fault:
                logger.warning("%s; trying again", error)
            self._fault = str(error)
        else:
            self._fault = None
            self._forgot_at_s = started_s if is_time_to_forget else self._forgot_at_s

    def _write_history(self, readings: list[Reading], now_s: float, *, forget: bool) -> None:
        if self._history is None:
            self._history = History(self._path, clock=self._steady_clock)
        self._history.add(readings, now_s=now_s)
        if forget:
            self._history.forget_old({reading.router for reading in readings})


def _readings(application: str, snapshot: RouterSnapshot) -> Iterator[Reading]:
    for rank, totals in snapshot.totals.by_rank.items():
        yield Reading(snapshot.router, Series(application, RANK, str(rank)), totals)
    for tenant, totals in snapshot.totals.by_tenant.items():
        yield Reading(snapshot.router, Series(application, TENANT, tenant), totals)
