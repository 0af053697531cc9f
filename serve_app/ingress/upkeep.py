"""What a router process does again and again, whether or not it is asked: it exports metrics, and judges self-tests."""

import asyncio
from collections.abc import Callable, Iterator

from router import Reservation
from serve_app.ingress.ready_router import ReadyRouter
from serve_app.ingress.records import RouterRecords
from serve_app.ingress.unready_router import UnreadyRouter
from serve_app.messages.delivery import Delivery
from serve_app.prompt.incoming import RequestReader
from serve_app.telemetry.ray_counters import EXPORT_S


class Upkeep:
    """Used on the router's event loop only.

    Args:
        router: the process's router now.
        records: what the process keeps.
        reader: reads requests, and with them the probes of self-tests.
        reservations: the delivery whose losses are counted.

    """

    def __init__(
        self,
        router: Callable[[], ReadyRouter | UnreadyRouter],
        records: RouterRecords,
        reader: RequestReader,
        reservations: Delivery[Reservation],
    ) -> None:
        self._router = router
        self._records = records
        self._reader = reader
        self._reservations = reservations

    async def export_metrics(self) -> None:
        """Export all metrics, without end."""
        metrics = self._records.metrics
        while True:
            await asyncio.sleep(EXPORT_S)
            metrics.parity.show(self._records.verdicts.by_rank())
            metrics.show_undelivered(self._reservations.num_dropped)
            metrics.show_tokenizers(self._tokenizers())
            self._router().show_replicas()
            metrics.export()

    async def judge_self_tests(self) -> None:
        """Judge the replicas' self-tests, without end."""
        while True:
            await asyncio.sleep(EXPORT_S)
            await self.judge_new()

    async def judge_new(self) -> None:
        """Judge the self-tests that are new, once this process can tokenise."""
        if self._reader.prompts is not None:
            await self._router().judge_self_tests(self._reader.read)

    def _tokenizers(self) -> Iterator[tuple[str, str]]:
        """The tokenizer of this router, and of each replica by its rank."""
        if self._reader.prompts is not None:
            yield "router", self._reader.prompts.tokenizer
        for replica in self._router().replicas:
            status = self._records.inbox.replica_to_status.get(replica.replica_id)
            if status is not None and status.tokenizer:
                yield str(replica.rank), status.tokenizer
