"""Every policy that a simulation can run, by name."""

from collections.abc import Callable
from importlib.util import find_spec
from random import Random

from loadtests.replay.engine import Engine
from loadtests.replay.rivals.ablations import NAME_TO_WEIGHTS, make_ablated
from loadtests.replay.rivals.dualmap import DualMap
from loadtests.replay.rivals.dynamo_rule import DynamoRule
from loadtests.replay.rivals.dynamo_service import DynamoService
from loadtests.replay.rivals.greedy_oracle import GreedyOracle
from loadtests.replay.rivals.llmd_scraped import LlmdScraped
from loadtests.replay.rivals.lmetric import LMetric
from loadtests.replay.rivals.pure_affinity import PureAffinity
from loadtests.replay.rivals.ray_kv_aware import RayKvAware
from loadtests.replay.rivals.ray_prefix import RayPrefix
from router import ReplicaId, UnknownPolicyError, policies
from router.policies import Policy

EngineOf = Callable[[ReplicaId], Engine]

_NAME_TO_FACTORY: dict[str, Callable[[Random, int, EngineOf], Policy]] = {
    LlmdScraped.name: lambda rng, _block_size, engine_of: LlmdScraped(rng, engine_of=engine_of),
    RayPrefix.name: lambda rng, block_size, _engine_of: RayPrefix(rng, block_size=block_size),
    DynamoService.name: lambda _rng, block_size, _engine_of: DynamoService(block_size=block_size),
    DynamoRule.name: lambda rng, _block_size, engine_of: DynamoRule(rng, engine_of=engine_of),
    RayKvAware.name: lambda rng, block_size, engine_of: RayKvAware(rng, block_size=block_size, engine_of=engine_of),
    LMetric.name: lambda rng, _block_size, engine_of: LMetric(rng, engine_of=engine_of),
    DualMap.name: lambda rng, _block_size, engine_of: DualMap(rng, engine_of=engine_of),
    PureAffinity.name: lambda _rng, _block_size, _engine_of: PureAffinity(),
    GreedyOracle.name: lambda rng, _block_size, engine_of: GreedyOracle(rng, engine_of=engine_of),
}
_NAME_TO_PACKAGE = {RayPrefix.name: "ray", DynamoService.name: "dynamo"}

ALL_NAMES = (*policies.POLICY_NAMES, *_NAME_TO_FACTORY)
ABLATION_NAMES = tuple(NAME_TO_WEIGHTS)
"""Made like the others, and run only where they are asked for."""


def installed_names() -> tuple[str, ...]:
    """Those whose packages are there."""
    return tuple(name for name in ALL_NAMES if name not in _NAME_TO_PACKAGE or find_spec(_NAME_TO_PACKAGE[name]))


def make_policy(name: str, rng: Random, *, block_size: int, engine_of: EngineOf) -> Policy:
    """The policy of that name, fresh.

    Raises:
        UnknownPolicyError: there is none.

    """
    if name in policies.POLICY_NAMES:
        return policies.make_policy(name, rng)
    if name in NAME_TO_WEIGHTS:
        return make_ablated(name)
    if name not in _NAME_TO_FACTORY:
        raise UnknownPolicyError(name, list(ALL_NAMES))
    return _NAME_TO_FACTORY[name](rng, block_size, engine_of)
