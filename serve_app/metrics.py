"""What a router counts, exported through Ray's metrics (Prometheus, the Ray dashboard)."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ray.util import metrics

from router import CacheRecord, Funnel, RoutingDecision, ShadowFault, ShadowTotals
from serve_app.funnel_report import STAGES, as_snapshot
from serve_app.request_body import Unreadable
from serve_app.routing_note import RoutingNote

logger = logging.getLogger("ray.serve")


class RouterMetrics:
    """Counts decisions by policy and reason, and unreadable prompts by reason; both label sets are closed."""

    def __init__(self) -> None:
        self.shadows = ShadowMetrics()
        self.funnel = FunnelMetrics()
        self.reason_to_decisions: Counter[str] = Counter()
        self.reason_to_unreadable: Counter[str] = Counter()
        self._decisions = metrics.Counter(
            "warmroute_decisions", description="Routing decisions of this router.", tag_keys=("policy", "reason")
        )
        self._unreadable = metrics.Counter(
            "warmroute_unreadable_prompts",
            description="Requests whose prompt could not be tokenised; they go to the least loaded replica.",
            tag_keys=("reason",),
        )

    def on_decision(self, note: RoutingNote) -> None:
        """A request was placed."""
        self.reason_to_decisions[note.reason] += 1
        self._decisions.inc(tags={"policy": note.policy, "reason": note.reason})

    def on_unreadable(self, reason: Unreadable) -> None:
        """A prompt has no key."""
        self.reason_to_unreadable[reason.value] += 1
        self._unreadable.inc(tags={"reason": reason.value})


_SHADOW_COUNTERS = {
    "decisions": "Decisions to which the shadow has an answer.",
    "agreements": "Of these, those where it chose the same replica.",
    "regret_tokens": "Prefill tokens that its choices would have cost more, where the live decision was better.",
    "gain_tokens": "Prefill tokens that its choices would have spared, where the shadow's was better.",
    "failures": "Decisions without an answer, because the shadow had failed.",
}
"""The fields of `ShadowTotals`."""


class ShadowMetrics:
    """Sums up the shadows' answers, by their policy and the live one; both label sets are closed."""

    def __init__(self) -> None:
        self._shadow_to_totals: defaultdict[str, ShadowTotals] = defaultdict(ShadowTotals)
        self._counters = {
            name: metrics.Counter(f"warmroute_shadow_{name}", description=description, tag_keys=("policy", "shadow"))
            for name, description in _SHADOW_COUNTERS.items()
        }

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
            self._export(asdict(added), {"policy": decision.policy, "shadow": answer.policy})

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """The sums since the routing settings were last applied, by shadow."""
        return {shadow: asdict(totals) for shadow, totals in self._shadow_to_totals.items()}

    def _export(self, added: dict[str, float], tags: dict[str, str]) -> None:
        for name, amount in added.items():
            if amount > 0:  # Ray refuses zero
                self._counters[name].inc(amount, tags=tags)


class FunnelMetrics:
    """Sums up where prompt tokens went, of the prompts that were decided here; both label sets are closed."""

    def __init__(self) -> None:
        self._funnel = Funnel()
        self._tokens = metrics.Counter(
            "warmroute_prompt_tokens",
            description=(
                "Prompt tokens by stage: offered by clients, reachable on the replica that held most, selected by the "
                "choice of a replica, reused by its engine."
            ),
            tag_keys=("stage",),
        )
        self._lost = metrics.Counter(
            "warmroute_lost_tokens",
            description="Prompt tokens that were not reused, each by one cause: offered = reused + lost.",
            tag_keys=("cause",),
        )

    def on_record(self, record: CacheRecord) -> None:
        """A prompt got its first token."""
        self._funnel.add(record)
        for stage in STAGES:
            self._export(self._tokens, getattr(record, stage), {"stage": stage})
        for cause, tokens in record.lost.items():
            self._export(self._lost, tokens, {"cause": cause.value})

    def snapshot(self) -> dict[str, Any]:
        """The sums since the router started."""
        return as_snapshot(self._funnel)

    def _export(self, counter: metrics.Counter, tokens: int, tags: dict[str, str]) -> None:
        if tokens > 0:  # Ray refuses zero
            counter.inc(tokens, tags=tags)
