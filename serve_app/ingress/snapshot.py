"""A router's view as plain data, for operators, tests and `warmroute doctor`. Counts and ids only, and the hashes of
prefixes where they are asked for.

What waits and runs are sequences, to the router as to its engine: several of a request for several answers.
"""

from typing import Any

from router import Replica, Router
from serve_app.ingress.inbox import Inbox
from serve_app.messages.receipts import Status
from serve_app.parity.verdicts import Verdicts


def snapshot(router: Router | None, inbox: Inbox, parity: Verdicts, *, now: float) -> dict[str, Any]:
    """Of the whole cluster, as it would be for a decision now."""
    if router is None:
        return {"block_size": None, "remembered": 0, "replicas": {}}
    router.prepare(now=now)
    return {
        "block_size": router.cluster.block_size,
        "remembered": router.cluster.load.num_remembered,
        "replicas": {
            replica.replica_id: {
                **_replica_snapshot(router, replica, inbox, now=now),
                "parity": parity[replica.replica_id].value,
            }
            for replica in router.cluster.replicas
        },
    }


def prefixes_snapshot(router: Router, limit: int) -> list[dict[str, Any]]:
    """The hottest beginnings of prompts. Their hashes are for the operators' application, which shows other names: a
    text can be tried against a hash.
    """
    replica_to_rank = {each.replica_id: each.rank for each in router.cluster.replicas}
    return [
        {
            "hash": f"{each.block_hash:016x}",
            "tokens": each.num_blocks * router.cluster.block_size,
            "work_share": each.work_share,
            "fan_out": each.fan_out,
            "ranks": sorted(replica_to_rank[replica_id] for replica_id in each.replica_ids),
        }
        for each in router.hot_prefixes(limit)
    ]


def knowledge(router: Router, replica: Replica) -> str:
    """By what the router believes that a replica holds something: its engine's `kv_events`, or `receipts`."""
    return "kv_events" if router.cluster.holders.is_exact(replica.replica_id) else "receipts"


def _replica_snapshot(router: Router, replica: Replica, inbox: Inbox, *, now: float) -> dict[str, Any]:
    load = router.cluster.load_of(replica)
    exclusion = router.health.exclusion(replica.replica_id, now=now)
    status = inbox.replica_to_status.get(replica.replica_id)
    return {
        "rank": replica.rank,
        "ring_share": router.cluster.ring.share(replica.rank),
        "kv_capacity_tokens": replica.kv_capacity_tokens,
        "host_capacity_tokens": replica.host_capacity_tokens,
        "tier_share": round(router.cluster.tiers.share(replica.replica_id), 4),
        "pending_tokens": load.pending_tokens,
        "waiting": load.num_waiting,
        "running": load.num_running,
        "recent_tokens": round(load.recent_tokens),
        "believed_blocks": router.cluster.holders.num_blocks(replica.replica_id),
        "knowledge": knowledge(router, replica),
        "heard_s_ago": router.health.heard_s_ago(replica.replica_id, now=now),
        "excluded": None if exclusion is None else exclusion.value,
        "tokenizer": "" if status is None else status.tokenizer,
        "engine": None if status is None else _engine_snapshot(status),
    }


def _engine_snapshot(status: Status) -> dict[str, Any]:
    """The replica's own numbers, as of its last heartbeat."""
    return {
        "waiting": None if status.engine is None else status.engine.waiting,
        "running": None if status.engine is None else status.engine.running,
        "kv_use": None if status.engine is None else status.engine.kv_use,
        "preempted": None if status.engine is None else status.engine.preempted,
        "prompt_tokens": status.prompt_tokens,
        "cached_tokens": status.cached_tokens,
        "external_cached_tokens": status.external_cached_tokens,
        "uncounted_tokens": status.uncounted_tokens,
        "looked_up_tokens": status.looked_up_tokens,
        "hit_tokens": status.hit_tokens,
        "own_tokens": status.own_tokens,
        "left_tokens": status.left_tokens,
        "answer_tokens": status.answer_tokens,
    }
