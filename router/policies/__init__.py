"""Ways to choose a replica: ours, and the baselines it is compared with, behind one interface."""

from collections.abc import Callable
from random import Random

from router.errors import UnknownPolicyError
from router.policies.chwbl import Chwbl
from router.policies.least_loaded import LeastLoaded
from router.policies.least_requests import LeastRequests
from router.policies.llmd_approximate import LlmdApproximate
from router.policies.policy import Choice, Policy, Unlearning
from router.policies.power_of_two import PowerOfTwo
from router.policies.prefix_affinity import PrefixAffinity, PrefixAffinityOptions
from router.policies.random_replica import RandomReplica
from router.policies.round_robin import RoundRobin
from router.policies.session_hash import SessionHash
from router.policies.sglang_cache_aware import SglangCacheAware

__all__ = [
    "POLICY_NAMES",
    "Choice",
    "LeastLoaded",
    "LeastRequests",
    "LlmdApproximate",
    "Policy",
    "PowerOfTwo",
    "PrefixAffinity",
    "PrefixAffinityOptions",
    "Unlearning",
    "make_policy",
]


class _PrefixAffinity(PrefixAffinity, Unlearning):
    """Until `PrefixAffinity` says so itself."""


_NAME_TO_FACTORY: dict[str, Callable[[PrefixAffinityOptions, Random], Policy]] = {
    PrefixAffinity.name: lambda options, rng: _PrefixAffinity(options, fallback=LeastLoaded(rng)),
    RoundRobin.name: lambda _options, rng: RoundRobin(rng),
    RandomReplica.name: lambda _options, rng: RandomReplica(rng),
    PowerOfTwo.name: lambda _options, rng: PowerOfTwo(rng),
    LeastRequests.name: lambda _options, rng: LeastRequests(rng),
    LeastLoaded.name: lambda _options, rng: LeastLoaded(rng),
    SessionHash.name: lambda _options, _rng: SessionHash(),
    Chwbl.name: lambda _options, _rng: Chwbl(),
    LlmdApproximate.name: lambda _options, rng: LlmdApproximate(rng),
    SglangCacheAware.name: lambda _options, rng: SglangCacheAware(rng),
}

POLICY_NAMES = tuple(_NAME_TO_FACTORY)


def make_policy(name: str, options: PrefixAffinityOptions, rng: Random) -> Policy:
    """The policy of that name, fresh.

    Raises:
        UnknownPolicyError: there is none.

    """
    if name not in _NAME_TO_FACTORY:
        raise UnknownPolicyError(name, list(POLICY_NAMES))
    return _NAME_TO_FACTORY[name](options, rng)
