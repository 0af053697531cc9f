"""Sends a cell's sessions: they start when they are due, whatever the server does; turns follow their answers."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence

import httpx

from loadtests.bench.records import SentTurn
from loadtests.client.exchange import JSON_HEADERS, exchange
from loadtests.client.turn_request import turn_request
from loadtests.workloads import Session

SESSION_HEADER = "x-session-id"
"""Ray's default name of it; ConsistentHashRouter goes by nothing else. All routings get it."""

OnDone = Callable[[SentTurn], None]


def _ignore(_: SentTurn) -> None:
    """A callback for callers who wait for the whole."""


class SessionDriver:
    """One client of one application.

    Args:
        client: with the application's address.
        model: its name for clients.
        think_scale: times the sessions' pauses.
        on_done: called after every request.
        clock: seconds, monotonic.

    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        model: str,
        think_scale: float,
        on_done: OnDone = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._clock = clock
        self._model = model
        self._think_scale = think_scale
        self._on_done = on_done

    async def open_loop(self, sessions: Sequence[Session], starts_s: Sequence[float]) -> list[SentTurn]:
        """Start each session at its time, as many at once as that makes; the records come in order of being due."""
        started_s = self._clock()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._converse(session, started_s, started_s + start_s))
                for session, start_s in zip(sessions, starts_s, strict=True)
            ]
        return sorted((record for task in running for record in task.result()), key=lambda each: each.due_s)

    async def closed_loop(self, sessions: Iterator[Session], *, num_users: int, seconds: float) -> list[SentTurn]:
        """One session at a time for each user; after the time none is sent, and all are awaited."""
        started_s = self._clock()

        async def user() -> list[SentTurn]:
            records: list[SentTurn] = []
            while (now_s := self._clock()) < started_s + seconds:
                records += await self._converse(next(sessions), started_s, now_s, until_s=started_s + seconds)
            return records

        async with asyncio.TaskGroup() as tasks:
            users = [tasks.create_task(user()) for _ in range(num_users)]
        return sorted((record for task in users for record in task.result()), key=lambda each: each.due_s)

    async def _converse(
        self, session: Session, started_s: float, due_s: float, *, until_s: float = math.inf
    ) -> list[SentTurn]:
        """Send a session's requests that are due by then. A failed one does not end it: the recorded answer goes on."""
        records: list[SentTurn] = []
        for number, turn in enumerate(session.turns):
            if records:
                due_s = self._clock() + turn.think_s * self._think_scale
            if due_s > until_s:
                break
            await asyncio.sleep(max(0.0, due_s - self._clock()))
            headers = (*JSON_HEADERS, (SESSION_HEADER, session.session_id))
            request = turn_request(session, number, model=self._model, headers=headers)
            sent = SentTurn(
                request.request_id,
                session.kind,
                started_s=due_s,
                session=session.session_id,
                turn=number,
                due_s=due_s - started_s,
                late_s=self._clock() - due_s,
            )
            await exchange(self._client, request, record=sent)
            records.append(sent)
            self._on_done(sent)
        return records
