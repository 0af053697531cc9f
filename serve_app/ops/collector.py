"""Reads every router, again and again: what it counts goes into the book, what it says of now is kept for the page."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from serve_app.ops import amounts
from serve_app.ops.history import Book, BookError, Reading, Series
from serve_app.ops.prefix_names import KEY_BYTES, PrefixNames

logger = logging.getLogger("ray.serve")

READ_S = 2.0
"""A call takes a router's time whatever it asks, and nobody sees the difference to once a second."""
PREFIXES_S = 5.0
FORGET_S = 3600.0
MAX_PREFIXES = 12

Snapshot = Mapping[str, Any]
Result = TypeVar("Result")


class Cluster(Protocol):
    """What there is to read."""

    async def applications(self) -> list[str]:
        """Those that have routers."""

    async def snapshots(self, application: str, num_prefixes: int) -> list[dict[str, Any]]:
        """Of the routers that answer, each with so many of the hottest prefixes."""


class Collector:
    """Call `run` once.

    Args:
        cluster: is read.
        path: of the book; None for none that outlives the process.
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
        self._prefix_names = PrefixNames(secrets.token_bytes(KEY_BYTES) if prefix_key is None else prefix_key)
        self._book: Book | None = None
        self._fault: str | None = None
        self._prefixes_at_s = self._forgot_at_s = float("-inf")
        self.application_to_snapshots: dict[str, list[Snapshot]] = {}
        self.application_to_prefixes: dict[str, list[dict[str, Any]]] = {}
        self.read_at_s: float | None = None
        """When all this was so."""

    @property
    def fault(self) -> str | None:
        """Why nothing is written at the moment; None if it is."""
        return self._fault

    @property
    def now_s(self) -> float:
        """Unix time."""
        return self._clock()

    async def run(self) -> None:
        """Until cancelled. What fails is tried again with the next."""
        try:
            while True:
                await self.read()
                await asyncio.sleep(READ_S)
        finally:
            if self._book is not None:
                self._book.close()

    async def read(self) -> None:
        """Once."""
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
            # Of one router: they tell each other of every decision.
            self.application_to_prefixes = {
                name: [self._named(each) for each in snapshots[0]["hot_prefixes"]]
                for name, snapshots in zip(names, readings, strict=True)
                if snapshots
            }
            self._prefixes_at_s = started_s
        await self._write(self.read_at_s)

    async def ask(self, question: Callable[[Book], Result]) -> Result | None:
        """Of the book, in a thread; None while there is none."""
        book = self._book
        return None if book is None else await asyncio.to_thread(question, book)

    def _named(self, prefix: Mapping[str, Any]) -> dict[str, Any]:
        """With a name in place of its hash, which stays in this process."""
        return {**prefix, "hash": self._prefix_names.name_of(prefix["hash"])}

    async def _write(self, now_s: float) -> None:
        readings = [
            Reading(snapshot["router"], Series(application, label, value), amounts.of_account(account))
            for application, snapshots in self.application_to_snapshots.items()
            for snapshot in snapshots
            for label, value_to_account in snapshot["accounts"].items()
            for value, account in value_to_account.items()
        ]
        started_s = self._steady_clock()
        is_time_to_forget = started_s - self._forgot_at_s >= FORGET_S
        try:
            await asyncio.to_thread(self._write_book, readings, now_s, forget=is_time_to_forget)
        except BookError as error:
            if str(error) != self._fault:
                logger.warning("%s; trying again", error)
            self._fault = str(error)
        else:
            self._fault = None
            self._forgot_at_s = started_s if is_time_to_forget else self._forgot_at_s

    def _write_book(self, readings: list[Reading], now_s: float, *, forget: bool) -> None:
        if self._book is None:
            self._book = Book(self._path, clock=self._steady_clock)
        self._book.add(readings, now_s=now_s)
        if forget:
            self._book.forget_old({each.router for each in readings})
