"""A second tier on one engine, on hand-made numbers and with an engine of our own."""

import time
from io import StringIO
from random import Random

import pytest
from rich.console import Console

from benchmarks.gpu.comparison import PolicyPlan
from benchmarks.gpu.engine import EngineAnswer, KvCache
from benchmarks.gpu.sessions import TurnTraffic
from benchmarks.gpu.tiers import (
    Reload,
    host_tokens_per_s,
    measure_reloads,
    reload_faults,
    reload_table,
    reloads_as_json,
    run_arm,
)
from tests.benchmarks.gpu.fake_engine import BLOCK_SIZE, RELOAD_S, FakeEngine


def reload(*, cold: int = 0, reloaded: int = 96, warm: int = 96, reloaded_s: float = 0.022) -> Reload:
    """Of 100 tokens, with so many cached each time."""
    return Reload(
        100,
        EngineAnswer(100, cold, 0.1, 0.1),
        EngineAnswer(100, reloaded, reloaded_s, 0.1),
        EngineAnswer(100, warm, 0.010, 0.1),
    )


async def test_each_prompt_is_computed_reloaded_and_reused() -> None:
    """After a first round; a reset comes before each reload, and the rate is the engine's."""
    engine = FakeEngine(has_host=True)
    reloads = [each async for each in measure_reloads(engine, (101, 201), repetitions=2, rng=Random(1))]
    assert sorted(each.num_tokens for each in reloads) == [101, 101, 201, 201]
    assert (engine.num_resets, len(engine.prompts)) == (6, 18)
    assert {each.cold.cached_tokens for each in reloads} == {0}
    assert all(each.reloaded.cached_tokens == each.warm.cached_tokens == each.num_tokens - 1 for each in reloads)
    assert host_tokens_per_s(reloads) == pytest.approx(1 / RELOAD_S)
    assert reload_faults(reloads) == []


async def test_an_engine_without_a_tier_is_found_out() -> None:
    """Nothing comes back after a reset."""
    reloads = [each async for each in measure_reloads(FakeEngine(), (101,), repetitions=1, rng=Random(1))]
    assert reload_faults(reloads) == ["a prompt of 101 tokens had 0 cached when reloaded"]


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (reload(cold=64), "64 cached when cold"),
        (reload(reloaded=0), "0 cached when reloaded"),
        (reload(warm=0), "0 cached when warm"),
    ],
)
def test_what_makes_times_worthless_is_named(spoilt: Reload, message: str) -> None:
    """Each by itself."""
    assert reload_faults([reload(), spoilt]) == [f"a prompt of 100 tokens had {message}"]


def test_the_rate_is_of_what_reloading_took_beyond_reuse() -> None:
    """96 tokens in 12 ms; none where reloading took no longer."""
    assert host_tokens_per_s([reload()] * 2) == pytest.approx(8000)
    assert host_tokens_per_s([reload(reloaded_s=0.010)]) is None
    assert reloads_as_json([reload()])["host_tokens_per_s"] == pytest.approx(8000)


def test_the_table_has_a_row_for_each_length() -> None:
    """In milliseconds, with intervals."""
    written = StringIO()
    Console(width=140, file=written).print(reload_table([reload()] * 2))
    row = next(line for line in written.getvalue().splitlines() if "100.0" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells == ["100", "100.0 ±0.0", "22.0 ±0.0", "10.0 ±0.0", "96", "0.220 ±0.000"]


async def test_an_arm_serves_the_same_sessions_under_its_name() -> None:
    """Each repetition from an empty cache of the GPU."""
    traffic = TurnTraffic(3, 1e6, 2, 1, 0, 8, 1, 0.0)
    plan = PolicyPlan(("no tier", "1 GiB"), traffic, repetitions=2, seed=1, ttft_limit_s=1)
    arms = []
    for name in plan.policies:
        engine = FakeEngine(has_host=name != "no tier")
        cache = KvCache(4000, BLOCK_SIZE)
        arms.append([run async for run in run_arm(name, plan, engine, cache, clock=time.perf_counter)])
        assert engine.num_resets == 3  # and one before the first runs
    assert [[(run.policy, run.repetition) for run in arm] for arm in arms] == [
        [("no tier", 0), ("no tier", 1)],
        [("1 GiB", 0), ("1 GiB", 1)],
    ]
    asked = [[sorted(record.prompt_tokens for record in run.records) for run in arm] for arm in arms]
    assert asked[0] == asked[1]
