"""Our policy with a term left out."""

from random import Random

import pytest

from loadtests.replay.options import read_policies
from loadtests.replay.rivals.ablations import NAME_TO_WEIGHTS
from loadtests.replay.rivals.table import make_policy, policies
from router.policies.prefix_affinity import PrefixAffinity
from router.policies.request_cost import CostWeights


@pytest.mark.parametrize("name", NAME_TO_WEIGHTS)
def test_each_lacks_one_term_and_bears_its_own_name(name: str) -> None:
    """Its results would be taken for ours otherwise; ours keeps all terms and its name."""
    made = make_policy(name, Random(0), block_size=16, engine_of=lambda _: pytest.fail("no engine is asked"))
    assert isinstance(made, PrefixAffinity)
    assert made.name == name
    weights, usual = NAME_TO_WEIGHTS[name], CostWeights()
    assert sum(getattr(weights, each) != getattr(usual, each) for each in CostWeights.__dataclass_fields__) == 1
    assert PrefixAffinity.name == "prefix_affinity"
    assert name not in policies.POLICY_NAMES


def test_they_run_where_they_are_asked_for() -> None:
    """By name, beside others."""
    assert read_policies("prefix_affinity,ours_without_memory") == ("prefix_affinity", "ours_without_memory")
