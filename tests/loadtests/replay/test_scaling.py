"""Replicas that come and go as an autoscaler decides, on small traces."""

from dataclasses import replace
from typing import Any

import pytest

from loadtests.replay.results import Replay
from loadtests.replay.scaling import Autoscaling
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.trace import TraceRequest
from serve_app.settings.schema import AUTOSCALING_POLICY
from tests.loadtests.replay.builders import OPTIONS, make_scenario, make_trace_request

COMMON: dict[str, Any] = {"min_replicas": 1, "max_replicas": 4, "upscale_delay_s": 10, "downscale_delay_s": 60}
OURS = {
    **COMMON,
    "policy": {
        "policy_function": AUTOSCALING_POLICY,
        "policy_kwargs": {"prefill_tokens_per_s": 100, "prefill_use": 0.6},
    },
}
ONGOING = {**COMMON, "target_ongoing_requests": 2}
BUSY_S, QUIET_S = 300, 300


def make_requests(*, every_s: float, is_shared: bool) -> tuple[TraceRequest, ...]:
    """Prompts of five blocks, all alike or all new: 81 tokens, of which 17 are new or all; then hardly any."""
    times_s = [*(number * every_s for number in range(round(BUSY_S / every_s))), BUSY_S + QUIET_S]
    blocks = [range(5) if is_shared else range(5 * number, 5 * number + 5) for number in range(len(times_s))]
    return tuple(make_trace_request(*each, arrival_s=time_s) for time_s, each in zip(times_s, blocks, strict=True))


def scaled(requests: tuple[TraceRequest, ...], config: dict[str, Any], *, num_replicas: int = 1) -> Replay:
    """Engines that compute 100 tokens a second, replicas that take 20 s to start."""
    scenario = replace(
        make_scenario(),
        requests=requests,
        num_replicas=num_replicas,
        engine=OPTIONS.model_copy(update={"prefill_tokens_per_s": 100}),
        autoscaling=Autoscaling(config, start_s=20),
    )
    return Simulation(scenario).run()


@pytest.mark.parametrize("config", [OURS, ONGOING], ids=["ours", "ongoing"])
def test_replicas_come_with_work_and_go_without(config: dict[str, Any]) -> None:
    """New prompts are more than one can compute; every request is answered all the same."""
    run = scaled(make_requests(every_s=0.8, is_shared=False), config)
    newcomers = [each for each in run.lives if each.joined_s]
    assert newcomers
    assert min(each.joined_s for each in newcomers) >= 20 + 10
    left = [each for each in run.lives if each.left_s is not None]
    assert len(left) == len(run.lives) - COMMON["min_replicas"]
    assert max(each.left_s or 0 for each in left) > BUSY_S
    assert all(each.gone_s is not None and each.gone_s >= (each.left_s or 0) for each in left)
    assert run.num_finished == len(make_requests(every_s=0.8, is_shared=False))


def test_as_many_requests_that_hit_are_no_load_for_ours() -> None:
    """The same arrivals and lengths."""
    new, shared = (scaled(make_requests(every_s=0.8, is_shared=each), OURS) for each in (False, True))
    assert len(new.lives) > 1
    assert len(shared.lives) == 1


def test_bounds_hold() -> None:
    """Whatever comes."""
    run = scaled(make_requests(every_s=0.3, is_shared=False), OURS)
    assert sum(each.left_s is None or each.left_s > BUSY_S for each in run.lives) == COMMON["max_replicas"]
    assert sum(each.left_s is None for each in run.lives) >= COMMON["min_replicas"]


def test_the_newest_leaves_first_and_its_rank_is_used_again() -> None:
    """As Serve does it where all nodes are alike; ranks stay without gaps."""
    simulation = Simulation(
        replace(
            make_scenario(),
            requests=make_requests(every_s=5, is_shared=True),
            num_replicas=3,
            autoscaling=Autoscaling({**ONGOING, "downscaling_factor": 0.4}, start_s=20),
        )
    )
    run = simulation.run()
    left_s = [each.left_s for each in run.lives]
    assert left_s[0] is None
    assert None not in left_s[1:]
    assert left_s[1:] == sorted(left_s[1:], key=lambda time_s: -(time_s or 0))


def test_a_run_is_a_function_of_its_scenario() -> None:
    """Autoscaling included."""
    requests = make_requests(every_s=0.8, is_shared=False)
    assert scaled(requests, OURS) == scaled(requests, OURS)


def test_without_an_autoscaler_all_are_there_all_the_time() -> None:
    """As ever."""
    scenario: Scenario = make_scenario()
    run = Simulation(scenario).run()
    assert [(each.joined_s, each.left_s, each.gone_s) for each in run.lives] == [(0, None, None)] * 3
