"""Ways to choose a replica: our policy, and the baselines it is compared with, behind one interface."""

from collections.abc import Callable
from random import Random
from typing import Literal, get_args

from router.errors import UnknownPolicyError
from router.policies.baselines.chwbl import Chwbl
from router.policies.baselines.least_loaded import LeastLoaded
from router.policies.baselines.least_requests import LeastRequests
from router.policies.baselines.llmd_approximate import LlmdApproximate
from router.policies.baselines.power_of_two import PowerOfTwo
from router.policies.baselines.random_replica import RandomReplica
from router.policies.baselines.round_robin import RoundRobin
from router.policies.baselines.session_hash import SessionHash
from router.policies.baselines.sglang_cache_aware import SglangCacheAware
from router.policies.policy import Choice, Policy, Unlearning
from router.policies.prefix_affinity import PrefixAffinity

__all__ = [
    "POLICY_NAMES",
    "Choice",
    "LeastLoaded",
    "LeastRequests",
    "LlmdApproximate",
    "Policy",
    "PolicyName",
    "PowerOfTwo",
    "PrefixAffinity",
    "Unlearning",
    "make_policy",
]

PolicyName = Literal[
    "prefix_affinity",
    "round_robin",
    "random",
    "power_of_two",
    "least_requests",
    "least_loaded",
    "session_hash",
    "chwbl",
    "llmd_approximate",
    "sglang_cache_aware",
]
POLICY_NAMES: tuple[PolicyName, ...] = get_args(PolicyName)

_NAME_TO_FACTORY: dict[str, Callable[[Random], Policy]] = {
    PrefixAffinity.name: lambda _rng: PrefixAffinity(),
    RoundRobin.name: RoundRobin,
    RandomReplica.name: RandomReplica,
    PowerOfTwo.name: PowerOfTwo,
    LeastRequests.name: LeastRequests,
    LeastLoaded.name: LeastLoaded,
    SessionHash.name: lambda _rng: SessionHash(),
    Chwbl.name: lambda _rng: Chwbl(),
    LlmdApproximate.name: LlmdApproximate,
    SglangCacheAware.name: SglangCacheAware,
}


def make_policy(name: str, rng: Random) -> Policy:
    """A new policy of this name.

    Raises:
        UnknownPolicyError: there is none.

    """
    if name not in _NAME_TO_FACTORY:
        raise UnknownPolicyError(name, list(POLICY_NAMES))
    return _NAME_TO_FACTORY[name](rng)
