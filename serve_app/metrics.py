"""What a router counts, exported through Ray's metrics (Prometheus, the Ray dashboard)."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from router import CacheRecord, Funnel, Router, RoutingDecision, ShadowFault, ShadowTotals
from serve_app.counters import Counters, Tally
from serve_app.funnel_report import STAGES, as_snapshot
from serve_app.parity import Verdict
from serve_app.request_body import Unreadable
from serve_app.router_snapshot import knowledge
from serve_app.routing_note import RoutingNote

logger = logging.getLogger("ray.serve")


class RouterMetrics:
    """Counts decisions by policy and reason, and unreadable prompts by reason; all label sets are closed."""

    def __init__(self) -> None:
        self._counters = Counters()
        self.shadows = ShadowMetrics(self._counters)
        self.funnel = FunnelMetrics(self._counters)
        self.parity = ParityMetrics(self._counters)
        self._knowledge = Tally(
            "warmroute_cache_knowledge",
            "Replicas by how this router knows what they hold: by their engine's kv_events, or by receipts.",
            labels=("rank", "source"),
        )
        self.reason_to_decisions: Counter[str] = Counter()
        self.reason_to_unreadable: Counter[str] = Counter()
        self._counters.declare("warmroute_decisions", "Routing decisions of this router.", labels=("policy", "reason"))
        self._counters.declare(
            "warmroute_unreadable_prompts",
            "Requests whose prompt could not be tokenised; they go to the least loaded replica.",
            labels=("reason",),
        )

    def on_decision(self, note: RoutingNote) -> None:
        """A request was placed."""
        self.reason_to_decisions[note.reason] += 1
        self._counters.add("warmroute_decisions", 1, {"policy": note.policy, "reason": note.reason})

    def on_unreadable(self, reason: Unreadable) -> None:
        """A prompt has no key."""
        self.reason_to_unreadable[reason.value] += 1
        self._counters.add("warmroute_unreadable_prompts", 1, {"reason": reason.value})

    def show_knowledge(self, router: Router) -> None:
        """Of all replicas there are, once in a while."""
        self._knowledge.show((str(each.rank), knowledge(router, each)) for each in router.cluster.members)

    def export(self) -> None:
        """To be called once in a while."""
        self._counters.export()


class ParityMetrics:
    """Whether replicas find prompts by this router's keys, by the replica's rank."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._tally = Tally(
            "warmroute_key_parity",
            "Replicas by what this router found of their keys: ok, unknown, or what is wrong.",
            labels=("rank", "verdict"),
        )
        counters.declare(
            "warmroute_sampled_keys",
            "Sampled requests whose token ids router and replica compared, by whether these were equal.",
            labels=("rank", "verdict"),
        )

    def on_sample(self, rank: int, *, agrees: bool) -> None:
        """A sampled request got its first token."""
        verdict = Verdict.OK if agrees else Verdict.TEMPLATE
        self._counters.add("warmroute_sampled_keys", 1, {"rank": str(rank), "verdict": verdict})

    def show(self, by_rank: Iterable[tuple[int, Verdict]]) -> None:
        """All replicas there are, once in a while."""
        self._tally.show((str(rank), verdict.value) for rank, verdict in by_rank)


_SHADOW_COUNTERS = {
    "decisions": "Decisions to which the shadow has an answer.",
    "agreements": "Of these, those where it chose the same replica.",
    "regret_tokens": "Prefill tokens that its choices would have cost more, where the live decision was better.",
    "gain_tokens": "Prefill tokens that its choices would have spared, where the shadow's was better.",
    "failures": "Decisions without an answer, because the shadow had failed.",
}
"""The fields of `ShadowTotals`."""


class ShadowMetrics:
    """Sums up the shadows' answers, by their policy and the live one."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._shadow_to_totals: defaultdict[str, ShadowTotals] = defaultdict(ShadowTotals)
        for name, description in _SHADOW_COUNTERS.items():
            counters.declare(f"warmroute_shadow_{name}", description, labels=("policy", "shadow"))

    def start(self, shadows: Iterable[str]) -> None:
        """Others from now on, or the same anew. The snapshot begins again; what was exported stays."""
        self._shadow_to_totals.clear()
        for shadow in shadows:
            self._shadow_to_totals[shadow] = ShadowTotals()

    def on_decision(self, decision: RoutingDecision) -> None:
        """What the shadows say to it."""
        for answer in decision.shadows:
            totals = self._shadow_to_totals[answer.policy]
            if isinstance(answer, ShadowFault) and not totals.failures:
                logger.error("The shadow policy %s failed and is out", answer.policy, exc_info=answer.error)
            totals.add(answer, decision)
            added = ShadowTotals()
            added.add(answer, decision)
            for name, amount in asdict(added).items():
                labels = {"policy": decision.policy, "shadow": answer.policy}
                self._counters.add(f"warmroute_shadow_{name}", amount, labels)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """The sums since the routing settings were last applied, by shadow."""
        return {shadow: asdict(totals) for shadow, totals in self._shadow_to_totals.items()}


class FunnelMetrics:
    """Sums up where prompt tokens went, of the prompts that were decided here, by the rank of who got them."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._rank_to_funnel: defaultdict[int, Funnel] = defaultdict(Funnel)
        counters.declare(
            "warmroute_prompt_tokens",
            "Prompt tokens by stage: offered by clients, reachable on the replica that held most, selected by the "
            "choice of a replica, reused by its engine.",
            labels=("rank", "stage"),
        )
        counters.declare(
            "warmroute_lost_tokens",
            "Prompt tokens that were not reused, each by one cause: offered = reused + lost.",
            labels=("rank", "cause"),
        )

    def on_record(self, record: CacheRecord, *, rank: int) -> None:
        """A prompt got its first token."""
        self._rank_to_funnel[rank].add(record)
        for stage in STAGES:
            labels = {"rank": str(rank), "stage": stage}
            self._counters.add("warmroute_prompt_tokens", getattr(record, stage), labels)
        for cause, tokens in record.lost.items():
            self._counters.add("warmroute_lost_tokens", tokens, {"rank": str(rank), "cause": cause.value})

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """The sums since the router started, by rank."""
        return {str(rank): as_snapshot(funnel) for rank, funnel in sorted(self._rank_to_funnel.items())}
