"""Every policy that a simulation can run, by name."""

from collections.abc import Callable
from random import Random

from loadtests.peers.greedy_oracle import GreedyOracle
from loadtests.peers.llmd_scraped import LlmdScraped
from loadtests.peers.ray_prefix import RayPrefix
from loadtests.replay.engine import Engine
from router import ReplicaId, UnknownPolicyError, policies
from router.policies import Policy, PrefixAffinityOptions

EngineOf = Callable[[ReplicaId], Engine]

_NAME_TO_FACTORY: dict[str, Callable[[Random, int, EngineOf], Policy]] = {
    RayPrefix.name: lambda rng, block_size, _engine_of: RayPrefix(rng, block_size=block_size),
    LlmdScraped.name: lambda rng, _block_size, engine_of: LlmdScraped(rng, engine_of=engine_of),
    GreedyOracle.name: lambda rng, _block_size, engine_of: GreedyOracle(rng, engine_of=engine_of),
}

POLICY_NAMES = (*policies.POLICY_NAMES, *_NAME_TO_FACTORY)


def make_policy(
    name: str, options: PrefixAffinityOptions, rng: Random, *, block_size: int, engine_of: EngineOf
) -> Policy:
    """The policy of that name, fresh.

    Raises:
        UnknownPolicyError: there is none.

    """
    if name in policies.POLICY_NAMES:
        return policies.make_policy(name, options, rng)
    if name not in _NAME_TO_FACTORY:
        raise UnknownPolicyError(name, list(POLICY_NAMES))
    return _NAME_TO_FACTORY[name](rng, block_size, engine_of)
