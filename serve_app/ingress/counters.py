"""What a router counts, exported through Ray's metrics (Prometheus, the Ray dashboard)."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from router import CacheRecord, ReplicaId, Router, RoutingDecision, ShadowFault, ShadowTotals
from serve_app.ingress.snapshot import knowledge
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.receipts import Status
from serve_app.messages.routing_note import RoutingNote
from serve_app.messages.snapshot import Totals
from serve_app.parity.verdicts import Verdict
from serve_app.prompt.body import Unreadable
from serve_app.telemetry import metrics
from serve_app.telemetry.funnel_report import TOKEN_SUMS
from serve_app.telemetry.ray_counters import Counters, Levels, Tally

logger = logging.getLogger("ray.serve")


class RouterMetrics:
    """All that a router of an application exports, as defined in `serve_app.telemetry.metrics`."""

    def __init__(self, application: str) -> None:
        self._counters = Counters(application)
        self.shadows = ShadowMetrics(self._counters)
        self.funnel = FunnelMetrics(self._counters)
        self.parity = ParityMetrics(self._counters, application)
        self._knowledge = Tally(metrics.CACHE_KNOWLEDGE, application)
        self._tokenizers = Tally(metrics.TOKENIZER, application)
        self._pending_tokens = Levels(metrics.PENDING_TOKENS, application)
        self._kv_use = Levels(metrics.KV_USE, application)
        self._excluded = Levels(metrics.EXCLUDED, application)
        self._num_undelivered = 0
        self.reason_to_decisions: Counter[str] = Counter()
        self.reason_to_unreadable: Counter[str] = Counter()

    def on_decision(self, note: RoutingNote) -> None:
        """Count a request that was placed."""
        self.reason_to_decisions[note.reason] += 1
        self._counters.add(metrics.DECISIONS, 1, {"policy": note.policy, "reason": note.reason})

    def on_unreadable(self, reason: Unreadable) -> None:
        """Count a prompt without a key."""
        self.reason_to_unreadable[reason.value] += 1
        self._counters.add(metrics.UNREADABLE, 1, {"reason": reason.value})

    def show_replicas(self, router: Router, replica_to_status: Mapping[ReplicaId, Status], *, now: float) -> None:
        """Show the state of every replica; call it regularly."""
        self._knowledge.show((str(replica.rank), knowledge(router, replica)) for replica in router.cluster.replicas)
        for replica in router.cluster.replicas:
            rank = str(replica.rank)
            self._pending_tokens.show(router.cluster.load_of(replica).pending_tokens, rank)
            is_excluded = router.health.exclusion(replica.replica_id, now=now) is not None
            self._excluded.show(float(is_excluded), rank)
            status = replica_to_status.get(replica.replica_id)
            if status is not None and status.engine is not None:
                self._kv_use.show(status.engine.kv_use, rank)

    def show_tokenizers(self, tokenizers: Iterable[tuple[str, str]]) -> None:
        """Show the tokenizers by rank, or `router`, without the reason why one is not fastokens."""
        self._tokenizers.show((place, tokenizer.partition(":")[0]) for place, tokenizer in tokenizers)

    def show_undelivered(self, total: int) -> None:
        """Count what was not delivered, given the total of all reservations since the start."""
        self._counters.add(metrics.UNDELIVERED, total - self._num_undelivered, {})
        self._num_undelivered = total

    def export(self) -> None:
        """Give Ray all that was counted; call it regularly."""
        self._counters.export()


class ParityMetrics:
    """Whether replicas find prompts by this router's keys, by the replica's rank."""

    def __init__(self, counters: Counters, application: str) -> None:
        self._counters = counters
        self._tally = Tally(metrics.KEY_PARITY, application)

    def on_sample(self, rank: int, *, agrees: bool) -> None:
        """Count a sampled request that got its first token."""
        verdict = Verdict.OK if agrees else Verdict.TEMPLATE
        self._counters.add(metrics.SAMPLED_KEYS, 1, {"rank": str(rank), "verdict": verdict})

    def show(self, by_rank: Iterable[tuple[int, Verdict]]) -> None:
        """Show the verdict on every replica; call it regularly."""
        self._tally.show((str(rank), verdict.value) for rank, verdict in by_rank)


class ShadowMetrics:
    """Adds up what the shadows answer, by their policy and the live one."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.policy_to_totals: defaultdict[str, ShadowTotals] = defaultdict(ShadowTotals)
        """Each shadow's totals since the routing settings were last applied."""

    def start(self, shadows: Iterable[str]) -> None:
        """Begin again, with these shadows from now on. What was exported stays."""
        self.policy_to_totals.clear()
        for shadow in shadows:
            self.policy_to_totals[shadow] = ShadowTotals()

    def on_decision(self, decision: RoutingDecision) -> None:
        """Count what the shadows say to a decision."""
        for answer in decision.shadows:
            totals = self.policy_to_totals[answer.policy]
            if isinstance(answer, ShadowFault) and not totals.failures:
                logger.error("The shadow policy %s failed and is out", answer.policy, exc_info=answer.error)
            totals.add(answer, decision)
            added = ShadowTotals()
            added.add(answer, decision)
            for name, amount in asdict(added).items():
                labels = {"policy": decision.policy, "shadow": answer.policy}
                self._counters.add(metrics.SHADOWS[name], amount, labels)


class FunnelMetrics:
    """Adds up where prompt tokens went, of the prompts that this router placed, by replica and by tenant.

    Tenants' totals are in the snapshot alone, from where the operators' application exports them.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._rank_to_totals: defaultdict[int, PromptTotals] = defaultdict(PromptTotals)
        self._tenant_to_totals: defaultdict[str, PromptTotals] = defaultdict(PromptTotals)

    @property
    def totals(self) -> Totals:
        """The totals since the router's start."""
        return Totals(
            by_rank=dict(sorted(self._rank_to_totals.items())), by_tenant=dict(sorted(self._tenant_to_totals.items()))
        )

    def on_record(self, record: CacheRecord, ttft_s: float | None, *, rank: int) -> None:
        """Count a prompt that got its first token."""
        self._rank_to_totals[rank].add(record, ttft_s)
        if record.tenant:
            self._tenant_to_totals[record.tenant].add(record, ttft_s)
        self._counters.add(metrics.PROMPTS, 1, {"rank": str(rank)})
        for stage in TOKEN_SUMS:
            labels = {"rank": str(rank), "stage": stage}
            self._counters.add(metrics.PROMPT_TOKENS, getattr(record, stage), labels)
        for cause, tokens in record.lost.items():
            self._counters.add(metrics.LOST_TOKENS, tokens, {"rank": str(rank), "cause": cause.value})
