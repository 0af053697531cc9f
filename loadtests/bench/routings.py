"""The routings that can be compared: our policies, which switch on a running application, and Ray's own routers."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from router.policies import POLICY_NAMES
from serve_app import extras

OURS = "prefix_affinity"
"""The routing that the others are compared with."""
BASELINE = "round_robin"
"""The routing by which the capacity is measured."""


@dataclass(frozen=True, slots=True)
class RayRouting:
    """A request router of Ray's, with the arguments that it has by default."""

    name: str
    router_class: str
    knows: str
    """What it decides by, and how it hears of that."""
    note: str = ""
    package: str = ""
    """That it needs besides Ray."""
    reads_events: bool = False
    """Whether replicas have to publish KV events for it."""

    @property
    def missing(self) -> str:
        """What to do where its package is not installed; empty where nothing is missing."""
        try:
            version(self.package or "ray")
        except PackageNotFoundError:
            command = extras.BENCH if self.package else extras.ENGINE
            return f"{self.name} needs {self.package or 'ray'}, which is not installed: {command}"
        return ""


RAY_ROUTINGS = {
    each.name: each
    for each in (
        RayRouting(
            "ray_prefix",
            "ray.serve.llm.request_router.PrefixCacheAffinityRouter",
            "nothing: it would go by the text of what it sent before, and is not told of it",
            "As shipped, which under direct streaming never learns what it routed: it sends all to one replica.",
        ),
        RayRouting(
            "ray_prefix_learning",
            "loadtests.bench.ray_application.LearningRouter",
            "the text of what it sent before, and queue lengths that it asks for",
            "Not as shipped: the same router, told what it routed, as Ray does without direct streaming.",
        ),
        RayRouting(
            "ray_consistent_hash",
            "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
            "the session's header",
            "As shipped, by the header x-session-id, which every request has.",
        ),
        RayRouting(
            "ray_round_robin",
            "ray.serve.experimental.round_robin_router.RoundRobinRouter",
            "nothing",
            "As shipped; Ray's default under direct streaming.",
        ),
        RayRouting(
            "ray_kv_aware",
            "ray.serve.llm.request_router.KVAwareRouter",
            "token ids; KV events; what it and its peers sent, first tokens and ends, as replicas tell",
            "As shipped, with Dynamo's SelectionService; before the run it was seen to know what replicas have cached.",
            package="ai-dynamo-runtime",
            reads_events=True,
        ),
    )
}
ROUTING_NAMES = (*POLICY_NAMES, *RAY_ROUTINGS)

_RECEIPTS = "receipts of what is outstanding"
_OURS = {
    "round_robin": "nothing",
    "random": "nothing",
    "session_hash": "the session's header",
    "power_of_two": _RECEIPTS,
    "least_requests": _RECEIPTS,
    "least_loaded": f"token ids; {_RECEIPTS}",
    "prefix_affinity": f"token ids; what it and its peers sent; receipts of what was reused; {_RECEIPTS}",
}
"""Those that are not here go by what they sent, and by receipts of what is outstanding."""


def knowledge(routing: str, *, has_kv_events: bool) -> str:
    """What a routing decides by, and how it hears of that.

    Args:
        routing: one of `ROUTING_NAMES`.
        has_kv_events: whether replicas tell our routers of them (`replicas.kv_events`).

    """
    if routing in RAY_ROUTINGS:
        return RAY_ROUTINGS[routing].knows
    known = _OURS.get(routing, f"token ids; what it and its peers sent; {_RECEIPTS}")
    return f"{known}; KV events" if has_kv_events and "token ids" in known and "sent" in known else known
