"""Ways to choose a replica: ours, and the baselines it is compared with, behind one interface."""

from collections.abc import Callable
from random import Random

from router.errors import UnknownPolicyError
from router.policies.baselines import LeastLoaded, PowerOfTwo, RoundRobin
from router.policies.policy import Choice, Policy
from router.policies.prefix_affinity import PrefixAffinity, PrefixAffinityOptions

__all__ = [
    "POLICY_NAMES",
    "Choice",
    "LeastLoaded",
    "Policy",
    "PowerOfTwo",
    "PrefixAffinity",
    "PrefixAffinityOptions",
    "RoundRobin",
    "make_policy",
]

_NAME_TO_FACTORY: dict[str, Callable[[PrefixAffinityOptions, Random], Policy]] = {
    PrefixAffinity.name: lambda options, rng: PrefixAffinity(options, fallback=LeastLoaded(rng)),
    RoundRobin.name: lambda _options, rng: RoundRobin(rng),
    PowerOfTwo.name: lambda _options, rng: PowerOfTwo(rng),
    LeastLoaded.name: lambda _options, rng: LeastLoaded(rng),
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
