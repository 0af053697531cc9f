"""What a router counts, exported through Ray's metrics (Prometheus, the Ray dashboard)."""

from collections import Counter

from ray.util import metrics

from serve_app.request_body import Unreadable
from serve_app.routing_note import RoutingNote


class RouterMetrics:
    """Counts decisions by policy and reason, and unreadable prompts by reason; both label sets are closed."""

    def __init__(self) -> None:
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
