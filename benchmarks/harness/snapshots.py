"""Reads the routers' snapshots: what is outstanding, who is where, what the engines counted. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.messages.snapshot import EngineSnapshot, RouterSnapshot, short_id

NOT_LOOKED_UP = "prompt_logprobs"
"""The cause under which replicas count prompts that vLLM never looks up in its cache, so does not count itself."""
NO_ENGINE = EngineSnapshot()


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What one router counts as outstanding at one replica, and what the replica's engine says itself."""

    router: str
    replica: str
    pending_tokens: int
    waiting: int
    running: int
    engine_waiting: int
    engine_running: int

    @property
    def is_nothing(self) -> bool:
        """Whether all of it is 0."""
        counts = (self.pending_tokens, self.waiting, self.running, self.engine_waiting, self.engine_running)
        return not any(counts)


def outstanding(routers: Sequence[RouterSnapshot]) -> list[Outstanding]:
    """What is outstanding, for every router and replica."""
    return [
        Outstanding(
            router=short_id(router.router),
            replica=short_id(replica_id),
            pending_tokens=replica.pending_tokens,
            waiting=replica.waiting,
            running=replica.running,
            # None before the engine's first step, as without an engine.
            engine_waiting=(replica.engine or NO_ENGINE).waiting or 0,
            engine_running=(replica.engine or NO_ENGINE).running or 0,
        )
        for router in routers
        for replica_id, replica in router.replicas.items()
    ]


def is_idle(routers: Sequence[RouterSnapshot]) -> bool:
    """Whether there are routers, they know replicas, and none counts anything as outstanding."""
    rows = outstanding(routers)
    return bool(rows) and all(row.is_nothing for row in rows)


def rank_to_replica(router: RouterSnapshot) -> dict[int, str]:
    """The full id of the replica of each rank."""
    return {replica.rank: replica_id for replica_id, replica in router.replicas.items()}


def unreadable(routers: Sequence[RouterSnapshot]) -> Counter[str]:
    """The number of prompts that the routers could not read since they started, by reason."""
    return sum((Counter(router.unreadable) for router in routers), Counter[str]())


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """A replica's running totals of its engine's prompts, in tokens."""

    prompt_tokens: int
    """Tokens of prompts that had a first output."""
    cached_tokens: int
    looked_up_tokens: int
    """The prompt tokens, and those of prompts that were aborted after the engine had looked them up."""
    hit_tokens: int
    uncounted_tokens: Mapping[str, int]
    """Tokens of prompts that are not among the prompt tokens, by cause."""
    external_cached_tokens: int = 0
    """The part of the cached tokens that came from a second tier, which vLLM counts apart."""

    @property
    def maybe_queried_tokens(self) -> int:
        """The uncounted tokens that vLLM may have looked up, or not: the request ended before it said so."""
        return sum(tokens for cause, tokens in self.uncounted_tokens.items() if cause != NOT_LOOKED_UP)

    def since(self, before: "EngineTotals") -> "EngineTotals":
        """What was added after `before`."""
        return EngineTotals(
            self.prompt_tokens - before.prompt_tokens,
            self.cached_tokens - before.cached_tokens,
            self.looked_up_tokens - before.looked_up_tokens,
            self.hit_tokens - before.hit_tokens,
            {
                cause: tokens - before.uncounted_tokens.get(cause, 0)
                for cause, tokens in self.uncounted_tokens.items()
                if tokens != before.uncounted_tokens.get(cause, 0)
            },
            self.external_cached_tokens - before.external_cached_tokens,
        )


NOTHING = EngineTotals(0, 0, 0, 0, {})


def engine_totals(routers: Sequence[RouterSnapshot]) -> dict[str, EngineTotals]:
    """Each replica's totals, by short id; where routers differ, the furthest: totals only grow."""
    newest: dict[str, EngineTotals] = {}
    for router in routers:
        for replica_id, replica in router.replicas.items():
            if replica.engine is None:
                continue
            totals = _totals(replica.engine)
            if _extent(totals) >= _extent(newest.setdefault(short_id(replica_id), totals)):
                newest[short_id(replica_id)] = totals
    return newest


def _totals(engine: EngineSnapshot) -> EngineTotals:
    return EngineTotals(
        engine.prompt_tokens,
        engine.cached_tokens,
        engine.looked_up_tokens,
        engine.hit_tokens,
        engine.uncounted_tokens,
        engine.external_cached_tokens,
    )


def _extent(totals: EngineTotals) -> int:
    return totals.prompt_tokens + totals.looked_up_tokens + sum(totals.uncounted_tokens.values())
