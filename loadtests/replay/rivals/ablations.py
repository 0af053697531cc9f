"""Our policy with one term of its cost left out, to see what the term is worth (docs/measurements/decision.md)."""

from router.policies.prefix_affinity import PrefixAffinity
from router.policies.request_cost import CostWeights

NAME_TO_WEIGHTS = {
    "ours_without_evictions": CostWeights(evictions=0.0),
    "ours_without_waiting": CostWeights(per_waiting=0.0),
    "ours_with_shared_as_own": CostWeights(shared=4.0),
    "ours_without_others": CostWeights(others=0.0),
    "ours_without_memory": CostWeights(memory=0.0),
    "ours_without_unseen": CostWeights(unseen=0.0),
}
"""Shared tokens weigh as a prompt's own do where no request waits."""


def make_ablated(name: str) -> PrefixAffinity:
    """The one of that name, under which its results are known."""
    policy = PrefixAffinity(NAME_TO_WEIGHTS[name])
    policy.name = name
    return policy
