"""What an operator should look at, as Prometheus alert rules."""

from dataclasses import dataclass
from typing import Any

from serve_app.messages.routing_note import NO_REPLICAS, ROUTING_ERROR
from serve_app.parity.verdicts import Verdict
from serve_app.prompt.body import Unreadable
from serve_app.telemetry.metrics import (
    APPLICATION,
    CACHE_KNOWLEDGE,
    DECISIONS,
    EXCLUDED,
    KEY_PARITY,
    PENDING_TOKENS,
    PROMPT_TOKENS,
    PROMPTS,
    UNDELIVERED,
    Kind,
    Metric,
)
from serve_app.telemetry.queries import hit_rate, latest, rate

GROUP = "warmroute"
MIN_TOKENS_PER_S = 100
"""Prompt tokens a second below which single prompts decide the hit rate."""
MIN_PROMPTS_PER_S = 0.1
HIT_RATE_DROP = 0.5
"""The share of the last day's hit rate below which it has dropped."""
HOT = 3
"""How many times the mean of the replicas' pending tokens a hot replica has."""
HOT_TOKENS = 20_000
"""The least number of pending tokens of a hot replica: seconds on a GPU."""
UNACCOUNTED = 0.2
FALLBACK = 0.01
FALLBACK_REASONS = f"{NO_REPLICAS}|{ROUTING_ERROR}|{Unreadable.STARTING}"
ROUTER_REQUESTS = Metric("serve_haproxy_ingress_router_requests", Kind.COUNTER, "Ray Serve's: HAProxy's questions.", ())
ROUTER_FAILURES = Metric(
    "serve_haproxy_ingress_router_failures", Kind.COUNTER, "Those without a usable answer.", ("reason",)
)
NO_REPLICA_THERE = "unknown_replica_id"
"""Ray's reason where a router did answer, but no replica is ready."""
WELL = f"{Verdict.OK}|{Verdict.UNKNOWN}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule."""

    name: str
    expression: str
    holds_for: str
    severity: str
    summary: str
    remedy: str

    def as_rule(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.holds_for,
            "labels": {"severity": self.severity},
            "annotations": {"summary": f"{{{{ $labels.{APPLICATION} }}}}: {self.summary}", "description": self.remedy},
        }


def alerts() -> tuple[Alert, ...]:
    """All alert rules."""
    offered = rate(PROMPT_TOKENS, window="15m", stage="=offered")
    pending = latest(PENDING_TOKENS, by=("rank",))
    mean_pending = f"on ({APPLICATION}) group_left () avg by ({APPLICATION}) ({pending})"
    decided = rate(DECISIONS, window="10m")
    fallen_back = rate(DECISIONS, window="5m", reason=f"=~{FALLBACK_REASONS}")
    knowledge = {
        source: f"({latest(CACHE_KNOWLEDGE, source=f'={source}')} > 0)" for source in ("receipts", "kv_events")
    }
    return (
        Alert(
            "WarmrouteHitRateDrop",
            f"({hit_rate(window='15m')}) < {HIT_RATE_DROP} * ({hit_rate(window='1d')}) "
            f"and {offered} > {MIN_TOKENS_PER_S}",
            "15m",
            "warning",
            "The hit rate is below half of what it was over the last day: {{ $value | humanizePercentage }}",
            "`warmroute funnel` says what tokens are lost to. New prompts, a changed system prompt or too little "
            "memory are not the router's; docs/concepts/funnel.md.",
        ),
        Alert(
            "WarmrouteKeysBroken",
            f"{latest(KEY_PARITY, by=('rank', 'verdict'), verdict=f'!~{WELL}')} > 0",
            "2m",
            "critical",
            "Replica {{ $labels.rank }} finds prompts by other keys than the routers: {{ $labels.verdict }}",
            "Requests are served, and reuse there is not predicted. Compare its template, block size and salt; "
            "docs/concepts/parity.md.",
        ),
        Alert(
            "WarmrouteReplicaHot",
            f"{pending} > {HOT_TOKENS} and {pending} / {mean_pending} > {HOT}",
            "10m",
            "warning",
            "Replica {{ $labels.rank }} has {{ $value }} prompt tokens to compute, a multiple of the mean",
            "One prefix draws more than a replica can do, or the replica is slow; `warmroute top`.",
        ),
        Alert(
            "WarmrouteReplicaExcluded",
            f"{latest(EXCLUDED, by=('rank',))} > 0",
            "2m",
            "critical",
            "Replica {{ $labels.rank }} is not eligible",
            "`warmroute doctor` says why: silent, unreachable, or its engine died or hangs; docs/operate/failures.md.",
        ),
        Alert(
            "WarmrouteReceiptsLost",
            f"1 - {rate(PROMPTS, window='10m')} / {decided} > {UNACCOUNTED} and {decided} > {MIN_PROMPTS_PER_S}",
            "10m",
            "warning",
            "{{ $value | humanizePercentage }} of the routed requests never report a first token",
            "Their receipts are lost, or their clients leave before it. The replicas' logs say `Cannot deliver` if it "
            "is the first.",
        ),
        Alert(
            "WarmrouteRoutersApart",
            f"{rate(UNDELIVERED, window='10m')} > 0",
            "10m",
            "warning",
            "Routers do not hear of each other's decisions",
            "Each then knows of half of the load; the routers' logs say `Cannot deliver`.",
        ),
        Alert(
            "WarmrouteFallback",
            f"{fallen_back} / {rate(DECISIONS, window='5m')} > {FALLBACK}",
            "5m",
            "critical",
            "{{ $value | humanizePercentage }} of the requests are placed without a look at any cache",
            "Reason `no_replicas`: none is ready. `starting`: routers restart. `routing_error`: a bug; see their logs.",
        ),
        Alert(
            "WarmrouteRoutersFail",
            f"{rate(ROUTER_FAILURES, window='5m', reason=f'!={NO_REPLICA_THERE}')} "
            f"/ {rate(ROUTER_REQUESTS, window='5m')} > {FALLBACK}",
            "5m",
            "critical",
            "{{ $value | humanizePercentage }} of the requests are placed by HAProxy, without a router",
            "Routers are gone, or do not answer within `routers.answer_timeout_s`; docs/operate/failures.md.",
        ),
        Alert(
            "WarmrouteKvEventsLost",
            " and ".join(knowledge.values()),
            "10m",
            "warning",
            "Some replicas' KV events cannot be followed",
            "Their caches are estimated from receipts until then; their logs say why; docs/concepts/beliefs.md.",
        ),
    )


def rules() -> dict[str, Any]:
    """The content of a rule file."""
    return {"groups": [{"name": GROUP, "rules": [alert.as_rule() for alert in alerts()]}]}
