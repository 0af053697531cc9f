"""The routings that can be compared: our policies, which switch on a running application, and Ray's own routers."""

from dataclasses import dataclass

from router.policies import POLICY_NAMES

OURS = "prefix_affinity"
"""What the others are compared with."""
BASELINE = "round_robin"
"""By which the capacity is measured."""


@dataclass(frozen=True, slots=True)
class RayRouting:
    """A request router of Ray's, with the arguments that it has by default."""

    name: str
    router_class: str
    note: str = ""


RAY_ROUTINGS = {
    each.name: each
    for each in (
        RayRouting(
            "ray_prefix",
            "ray.serve.llm.request_router.PrefixCacheAffinityRouter",
            "As shipped, which under direct streaming never learns what it routed: it sends all to one replica.",
        ),
        RayRouting(
            "ray_prefix_learning",
            "loadtests.bench.ray_application.LearningRouter",
            "Not as shipped: the same router, told what it routed, as Ray does without direct streaming.",
        ),
        RayRouting(
            "ray_consistent_hash",
            "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
            "As shipped, by the header x-session-id, which every request has.",
        ),
        RayRouting(
            "ray_round_robin",
            "ray.serve.experimental.round_robin_router.RoundRobinRouter",
            "As shipped; Ray's default under direct streaming.",
        ),
    )
}
ROUTING_NAMES = (*POLICY_NAMES, *RAY_ROUTINGS)
