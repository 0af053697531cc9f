"""What the replicas would report of the decisions, if they had engines: so the routers pay for receipts as well."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import orjson

from loadtests.route_cost.applications import OURS, STAND_IN
from serve_app.receipts import CanaryReport
from serve_app.routing_note import NOTE_HEADER, RoutingNote

INTERVAL_S = 0.05
"""From the decision to the end of the request, at most."""
REPORT_TIMEOUT_S = 5.0


class Reporter:
    """Tells the stand-in replicas of each decision, as if it had been served at once."""

    def __init__(self) -> None:
        from ray import serve

        self._replicas = serve.get_deployment_handle(STAND_IN, app_name=OURS)
        self._served: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self._last: RoutingNote | None = None

    async def set_canary(self, report: CanaryReport) -> None:
        """Let all replicas report it."""
        await self._replicas.broadcast("set_canary", report).results_async(timeout_s=REPORT_TIMEOUT_S)

    @property
    def prompt_tokens(self) -> int:
        """Of the last decision."""
        return 0 if self._last is None else self._last.prompt_tokens or 0

    def on_answer(self, content: bytes) -> None:
        """A router's answer."""
        note = RoutingNote.decode(orjson.loads(content)["request_headers"][NOTE_HEADER])
        self._last = note
        self._served[note.replica_id].append(
            (note.request_id, note.prompt_tokens or 0, note.believed_cached_tokens or 0)
        )

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """While the block lasts, and what is left at its end."""
        task = asyncio.create_task(self._report_for_ever())
        try:
            yield
        finally:
            task.cancel()
            await self._report()

    async def _report_for_ever(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self._report()

    async def _report(self) -> None:
        served, self._served = self._served, defaultdict(list)
        if served:
            await self._replicas.broadcast("on_served", dict(served)).results_async(timeout_s=REPORT_TIMEOUT_S)
