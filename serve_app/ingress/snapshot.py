"""What a router tells of its view, made from the core and from the replicas' own reports."""

from router import Replica, Router
from serve_app.ingress.inbox import Inbox
from serve_app.messages.receipts import Status
from serve_app.messages.snapshot import EngineSnapshot, HotPrefix, ReplicaSnapshot
from serve_app.parity.verdicts import Verdicts


def replica_snapshots(router: Router, inbox: Inbox, parity: Verdicts, *, now: float) -> dict[str, ReplicaSnapshot]:
    """Every replica by its id, as it would be for a decision now."""
    router.prepare(now=now)
    return {
        replica.replica_id: _replica_snapshot(
            router,
            replica,
            inbox.replica_to_status.get(replica.replica_id),
            parity=parity[replica.replica_id].value,
            now=now,
        )
        for replica in router.cluster.replicas
    }


def hot_prefixes(router: Router, limit: int) -> list[HotPrefix]:
    """At most `limit` of the hottest prefixes."""
    replica_to_rank = {replica.replica_id: replica.rank for replica in router.cluster.replicas}
    return [
        HotPrefix(
            hash=f"{prefix.block_hash:016x}",
            tokens=prefix.num_blocks * router.cluster.block_size,
            work_share=prefix.work_share,
            fan_out=prefix.fan_out,
            ranks=sorted(replica_to_rank[replica_id] for replica_id in prefix.replica_ids),
        )
        for prefix in router.hot_prefixes(limit)
    ]


def knowledge(router: Router, replica: Replica) -> str:
    """How the router knows what a replica has cached: by its engine's `kv_events`, or by `receipts`."""
    return "kv_events" if router.cluster.holders.is_exact(replica.replica_id) else "receipts"


def _replica_snapshot(
    router: Router, replica: Replica, status: Status | None, *, parity: str, now: float
) -> ReplicaSnapshot:
    load = router.cluster.load_of(replica)
    exclusion = router.health.exclusion(replica.replica_id, now=now)
    return ReplicaSnapshot(
        rank=replica.rank,
        ring_share=router.cluster.ring.share(replica.rank),
        kv_capacity_tokens=replica.kv_capacity_tokens,
        host_capacity_tokens=replica.host_capacity_tokens,
        tier_share=round(router.cluster.tiers.share(replica.replica_id), 4),
        pending_tokens=load.pending_tokens,
        waiting=load.num_waiting,
        running=load.num_running,
        recent_tokens=round(load.recent_tokens),
        believed_blocks=router.cluster.holders.num_blocks(replica.replica_id),
        knowledge=knowledge(router, replica),
        heard_s_ago=router.health.heard_s_ago(replica.replica_id, now=now),
        excluded=None if exclusion is None else exclusion.value,
        parity=parity,
        tokenizer="" if status is None else status.tokenizer,
        engine=None if status is None else _engine_snapshot(status),
    )


def _engine_snapshot(status: Status) -> EngineSnapshot:
    engine = status.engine
    return EngineSnapshot(
        waiting=None if engine is None else engine.waiting,
        running=None if engine is None else engine.running,
        kv_use=None if engine is None else engine.kv_use,
        preempted=None if engine is None else engine.preempted,
        prompt_tokens=status.prompt_tokens,
        cached_tokens=status.cached_tokens,
        external_cached_tokens=status.external_cached_tokens,
        uncounted_tokens=status.uncounted_tokens,
        looked_up_tokens=status.looked_up_tokens,
        hit_tokens=status.hit_tokens,
        own_tokens=status.own_tokens,
        left_tokens=status.left_tokens,
        answer_tokens=status.answer_tokens,
    )
