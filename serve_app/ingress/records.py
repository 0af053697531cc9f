"""What a router process keeps of its decisions and of its replicas' messages, whichever replicas run."""

from collections.abc import Callable

from router import CacheRecord, ReplicaId, RequestId, TokenHash
from serve_app.ingress.counters import RouterMetrics
from serve_app.ingress.inbox import Inbox
from serve_app.parity.samples import KeySamples
from serve_app.parity.verdicts import Verdict, Verdicts


class RouterRecords:
    """The inbox, the key samples and the verdicts of one router process, with the metrics that they feed.

    Args:
        metrics: the metrics that this process exports.
        on_verdict: takes each replica whose verdict changes.

    """

    def __init__(self, metrics: RouterMetrics, on_verdict: Callable[[ReplicaId, Verdict], None]) -> None:
        self.metrics = metrics
        self.samples = KeySamples()
        self.verdicts = Verdicts(on_verdict)
        self.inbox = Inbox(self._on_record, self._on_token_hash)

    def _on_record(self, record: CacheRecord, ttft_s: float | None) -> None:
        rank = self.verdicts.rank_of(record.replica_id)
        if rank is not None:
            self.metrics.funnel.on_record(record, ttft_s, rank=rank)

    def _on_token_hash(self, replica_id: ReplicaId, request_id: RequestId, token_hash: TokenHash) -> None:
        agrees = self.samples.agrees(request_id, token_hash)
        if agrees is None:
            return
        rank = self.verdicts.on_sample(replica_id, agrees=agrees)
        if rank is not None:
            self.metrics.parity.on_sample(rank, agrees=agrees)
