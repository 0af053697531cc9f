"""Compares the routers' funnel of each replica with what its vLLM counted. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness.snapshots import NOT_LOOKED_UP, rank_to_replica
from router import Funnel
from serve_app.messages.snapshot import RouterSnapshot, short_id
from serve_app.telemetry.funnel_report import by_rank
from tests.agreement import TOLERANCE, Counted
from tests.engine_counters import CacheCounters


@dataclass(frozen=True, slots=True)
class FunnelAgreement:
    """Of one replica, in tokens of the same time."""

    offered: int
    reused: int
    queries: int
    """That vLLM looked up."""
    hits: int
    """Of these, found."""
    own: int
    """Looked up for the replica's own prompts, which no router sent."""
    left: int
    """Looked up for clients that had left before the first token."""
    not_looked_up: int
    """Offered, and not looked up, because the request wanted it so."""
    aborted: int
    """Perhaps looked up: the request ended before its first token."""

    @property
    def rest(self) -> int:
        """What was looked up besides, and is none of these; negative if less was looked up than there must be."""
        excess = self.queries - self.offered - self.own - self.left + self.not_looked_up
        return min(excess, 0) + max(excess - self.aborted, 0)

    @property
    def is_close(self) -> bool:
        """Whether the rest is small, and no more was reused than found."""
        tolerated = TOLERANCE * max(self.queries, 1)
        return abs(self.rest) <= tolerated and self.reused - self.hits <= tolerated


def compare_funnels(
    routers_before: Sequence[RouterSnapshot], routers: Sequence[RouterSnapshot], before: Counted, after: Counted
) -> dict[str, FunnelAgreement]:
    """By short replica id, of replicas that were there all the time."""
    earlier, now, none = by_rank(routers_before), by_rank(routers), CacheCounters()
    compared = {}
    for rank, replica_id in rank_to_replica(routers[0]).items():
        name = short_id(replica_id)
        funnel = now.get(rank, Funnel())
        funnel.subtract(earlier.get(rank, Funnel()))
        vllms = after.vllms.get(name, none).since(before.vllms.get(name, none))
        ours = after.ours[name].since(before.ours[name])
        compared[name] = FunnelAgreement(
            offered=funnel.offered,
            reused=funnel.reused,
            queries=vllms.queries,
            hits=vllms.hits,
            own=_count(routers, replica_id, "own_tokens") - _count(routers_before, replica_id, "own_tokens"),
            left=_count(routers, replica_id, "left_tokens") - _count(routers_before, replica_id, "left_tokens"),
            not_looked_up=ours.uncounted_tokens.get(NOT_LOOKED_UP, 0),
            aborted=ours.maybe_queried_tokens,
        )
    return compared


def _count(routers: Sequence[RouterSnapshot], replica_id: str, name: str) -> int:
    replicas = [router.replicas[replica_id] for router in routers if replica_id in router.replicas]
    return max((getattr(replica.engine, name) for replica in replicas if replica.engine is not None), default=0)
