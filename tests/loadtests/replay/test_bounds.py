"""What routing cannot beat."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.replay.bounds import infinite_hit_rate, pooled_hit_rate
from loadtests.replay.engine import EngineOptions
from loadtests.replay.results import hit_rate
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.trace import TraceRequest
from router.policies import PolicyName
from serve_app.settings.schema import RoutingSettings
from tests.loadtests.replay.builders import BLOCK_SIZE, OPTIONS, make_conversations, make_trace_request


def test_bounds_by_hand() -> None:
    """Prompts of 33, 49 and 33 tokens; the last one comes when a cache of three blocks has lost its second block."""
    requests = [make_trace_request(1, 2), make_trace_request(1, 3, 4), make_trace_request(1, 2)]
    assert infinite_hit_rate(requests, block_size=16) == 3 * 16 / 115
    assert pooled_hit_rate(requests, capacity_tokens=48, block_size=16) == 2 * 16 / 115
    assert pooled_hit_rate(requests, capacity_tokens=64, block_size=16) == 3 * 16 / 115


def test_the_last_token_of_a_prompt_is_computed() -> None:
    """So of two full blocks one is reused at most, though the bound of all bounds does not know that."""
    requests = [make_trace_request(1, 2, extra_tokens=0)] * 2
    assert pooled_hit_rate(requests, capacity_tokens=999, block_size=16) == 16 / 64
    assert infinite_hit_rate(requests, block_size=16) == 32 / 64


@pytest.mark.parametrize("policy", ["prefix_affinity", "round_robin"])
@given(seed=st.integers(0, 50), num_replicas=st.integers(1, 3), capacity_blocks=st.integers(5, 200))
@settings(max_examples=10)
def test_no_run_hits_more_than_an_infinite_cache(
    policy: PolicyName, seed: int, num_replicas: int, capacity_blocks: int
) -> None:
    """Whatever policy, order and size; and neither does one cache for all."""
    requests = make_conversations(seed=seed)
    engine = OPTIONS.model_copy(update={"kv_capacity_tokens": capacity_blocks * BLOCK_SIZE})
    routing = RoutingSettings(policy=policy)
    scenario = Scenario(requests, num_replicas, 1, seed, engine=engine, block_size=BLOCK_SIZE, routing=routing)
    bound = infinite_hit_rate(requests, block_size=BLOCK_SIZE)
    assert 0 < hit_rate(Simulation(scenario).run().records) <= bound
    assert pooled_hit_rate(requests, capacity_tokens=capacity_blocks * BLOCK_SIZE, block_size=BLOCK_SIZE) <= bound


def one_after_the_other(requests: tuple[TraceRequest, ...]) -> tuple[TraceRequest, ...]:
    """One long session."""
    return tuple(replace(each, predecessor=number - 1 if number else None) for number, each in enumerate(requests))


@given(seed=st.integers(0, 50), capacity_blocks=st.integers(30, 200))
@settings(max_examples=20)
def test_one_replica_hits_what_one_cache_would(seed: int, capacity_blocks: int) -> None:
    """With one request at a time, but for two blocks: vLLM's own, and the one that each request does not fill."""
    requests = one_after_the_other(make_conversations(seed=seed))
    engine = EngineOptions(kv_capacity_tokens=(capacity_blocks + 2) * BLOCK_SIZE)
    scenario = Scenario(requests, 1, 1, seed, engine=engine, block_size=BLOCK_SIZE, is_closed_loop=True)
    bound = pooled_hit_rate(requests, capacity_tokens=capacity_blocks * BLOCK_SIZE, block_size=BLOCK_SIZE)
    assert hit_rate(Simulation(scenario).run().records) == bound
