"""Routers' snapshots and a cluster of them, without a cluster."""

from typing import Any

from router import CacheRecord, Loss, ReplicaId, RequestId
from serve_app.telemetry.prompt_totals import Account


def counted(prompts: int, *, ttft_s: float = 0.3) -> dict[str, Any]:
    """So many prompts of 100 tokens, of which 60 were reused and 80 believed held; an account's snapshot."""
    account = Account()
    lost = {Loss.EVICTED: 20, Loss.NEW: 20}
    record = CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", 100, 80, 80, 60, lost, shared=50, shared_reused=40)
    for _ in range(prompts):
        account.add(record, ttft_s)
    account.funnel.check_integrity()
    return account.as_snapshot()


def router(name: str, **rank_to_prompts: int) -> dict[str, Any]:
    """One router's snapshot, by `r0=3` for three prompts of rank 0; all of one tenant."""
    by_rank = {rank.removeprefix("r"): counted(prompts) for rank, prompts in rank_to_prompts.items()}
    return {
        "router": name,
        "model": "demo",
        "engine": "simulated",
        "policy": "prefix_affinity",
        "block_size": 16,
        "decisions": {"prefix": 3},
        "accounts": {"rank": by_rank, "tenant": {"acme": counted(sum(rank_to_prompts.values()))}},
        "replicas": {f"app#LLM#r{rank}": replica(rank) for rank in range(2)},
    }


def replica(rank: int) -> dict[str, Any]:
    """As a router sees it."""
    return {
        "rank": rank,
        "ring_share": 0.5,
        "kv_capacity_tokens": 1600,
        "pending_tokens": 120,
        "waiting": 1,
        "running": 2,
        "believed_blocks": 50,
        "knowledge": "receipts",
        "excluded": "silent" if rank else None,
        "parity": "ok",
        "engine": {"kv_use": 0.25},
    }


PREFIX = {"hash": "00ff", "tokens": 1024, "work_share": 0.4, "fan_out": 2, "ranks": [0, 1]}


class Clock:
    """Stands still until it is set."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


class FakeCluster:
    """One application."""

    def __init__(self, *snapshots: dict[str, Any]) -> None:
        self.routers = list(snapshots)

    async def applications(self) -> list[str]:
        """Its name."""
        return ["warmroute"]

    async def snapshots(self, application: str, num_prefixes: int) -> list[dict[str, Any]]:
        """Those of now."""
        assert application == "warmroute"
        return [{**each, "hot_prefixes": [PREFIX][:num_prefixes]} for each in self.routers]
