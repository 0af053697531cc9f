"""The routings that can be compared: our policies, which switch on a running application, and Ray's own routers."""

from dataclasses import dataclass

from router.policies import POLICY_NAMES

OURS = "prefix_affinity"
"""What the others are compared with."""


@dataclass(frozen=True, slots=True)
class RayRouting:
    """A request router that Ray ships, with the arguments that it has by default."""

    name: str
    router_class: str


RAY_ROUTINGS = {
    each.name: each
    for each in (
        RayRouting("ray_prefix", "ray.serve.llm.request_router.PrefixCacheAffinityRouter"),
        RayRouting("ray_consistent_hash", "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"),
        RayRouting("ray_round_robin", "ray.serve.experimental.round_robin_router.RoundRobinRouter"),
    )
}
ROUTING_NAMES = (*POLICY_NAMES, *RAY_ROUTINGS)
