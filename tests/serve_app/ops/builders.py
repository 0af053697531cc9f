"""A cluster for the operators' application, without a cluster."""

import msgspec

from router import CacheRecord, Loss, ReplicaId, RequestId
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import EngineSnapshot, HotPrefix, ReplicaSnapshot, RouterSnapshot, Totals
from tests import snapshots


def counted(prompts: int, *, ttft_s: float = 0.3) -> PromptTotals:
    """Totals of prompts of 100 tokens each, of which 60 were reused and 80 were estimated to be cached."""
    totals = PromptTotals()
    lost = {Loss.EVICTED: 20, Loss.NEW: 20}
    record = CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", 100, 80, 80, 60, lost, shared=50, shared_reused=40)
    for _ in range(prompts):
        totals.add(record, ttft_s)
    totals.funnel.check_integrity()
    return totals


def router(name: str, **rank_to_prompts: int) -> RouterSnapshot:
    """One router's snapshot, by `r0=3` for three prompts of rank 0; all of one tenant."""
    by_rank = {int(rank.removeprefix("r")): counted(prompts) for rank, prompts in rank_to_prompts.items()}
    return snapshots.router(
        name,
        {f"app#LLM#r{rank}": replica(rank) for rank in range(2)},
        engine="simulated",
        decisions={"prefix": 3},
        totals=Totals(by_rank=by_rank, by_tenant={"acme": counted(sum(rank_to_prompts.values()))}),
    )


def replica(rank: int) -> ReplicaSnapshot:
    """A busy replica, of which the second one is silent."""
    return snapshots.replica(
        rank,
        pending_tokens=120,
        waiting=1,
        running=2,
        believed_blocks=50,
        excluded="silent" if rank else None,
        engine=EngineSnapshot(kv_use=0.25),
    )


PREFIX = HotPrefix(hash="00ff", tokens=1024, work_share=0.4, fan_out=2, ranks=[0, 1])


class Clock:
    """Stands still until it is set."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


class FakeCluster:
    """A cluster with one application."""

    def __init__(self, *routers: RouterSnapshot) -> None:
        self.routers = list(routers)
        self.prefixes = [PREFIX]

    async def applications(self) -> list[str]:
        """Its name."""
        return ["warmroute"]

    async def snapshots(self, application: str, num_prefixes: int) -> list[RouterSnapshot]:
        """The snapshots of now."""
        assert application == "warmroute"
        return [
            msgspec.structs.replace(snapshot, hot_prefixes=self.prefixes[:num_prefixes]) for snapshot in self.routers
        ]
