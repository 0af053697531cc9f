"""A prefix that becomes hot, by its laws."""

from random import Random

import pytest

from benchmarks.virtual.scenarios.hot_traffic import PREFIX, PREFIX_TOKENS, HotTraffic, heat
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash

NUM_BACKGROUND = 300
TOKENS_PER_S = 10_000.0


def make_traffic(*, is_prefix_counted: bool, seed: int = 1) -> HotTraffic:
    """In front of prompts of 5,000 tokens, one a second."""
    background = [TraceRequest(float(number), 5000, 10, (BlockHash(number),)) for number in range(NUM_BACKGROUND)]
    return heat(background, tokens_per_s=TOKENS_PER_S, is_prefix_counted=is_prefix_counted, rng=Random(seed))


def phases(traffic: HotTraffic) -> list[list[TraceRequest]]:
    """Before, in and after the peak."""
    start_s, end_s = traffic.peak_start_s, traffic.peak_end_s
    groups: list[list[TraceRequest]] = [[], [], []]
    for request in traffic.requests:
        groups[(request.arrival_s >= start_s) + (request.arrival_s >= end_s)].append(request)
    return groups


def is_hot(request: TraceRequest) -> bool:
    """Whether it has the prefix."""
    return request.block_hashes == PREFIX


@pytest.mark.parametrize("is_prefix_counted", [True, False])
def test_the_load_stays_and_the_share_of_the_prefix_rises_and_falls(*, is_prefix_counted: bool) -> None:
    """A twentieth, four fifths, a twentieth of the requests; counted tokens come equally fast in all three phases."""
    traffic = make_traffic(is_prefix_counted=is_prefix_counted)
    groups = phases(traffic)
    shares = [sum(map(is_hot, group)) / len(group) for group in groups]
    assert shares == pytest.approx([0.05, 0.8, 0.05], abs=0.01)
    uncounted_tokens = 0 if is_prefix_counted else PREFIX_TOKENS
    tokens = [sum(each.num_prompt_tokens - uncounted_tokens * is_hot(each) for each in group) for group in groups]
    assert tokens[1] / (traffic.peak_end_s - traffic.peak_start_s) == pytest.approx(TOKENS_PER_S, rel=0.03)
    assert tokens[0] / traffic.peak_start_s == pytest.approx(TOKENS_PER_S, rel=0.03)


def test_hot_requests_have_the_prefix_in_common_and_no_more() -> None:
    """A tail that fills no block, a session of their own, and arrivals that tell them from others."""
    traffic = make_traffic(is_prefix_counted=True)
    hot = [request for request in traffic.requests if is_hot(request)]
    assert {request.arrival_s for request in hot} == traffic.hot_arrivals_s
    assert len({request.session_id for request in hot}) == len(hot) == 5 + 400 + 5
    assert all(0 < request.num_prompt_tokens - PREFIX_TOKENS < BLOCK_SIZE_TOKENS for request in hot)


def test_all_others_stay_as_they_are_in_order() -> None:
    """They only come at other times, and wait for nobody."""
    others = [request for request in make_traffic(is_prefix_counted=True).requests if not is_hot(request)]
    assert [request.block_hashes[0] for request in others] == list(range(NUM_BACKGROUND))
    arrivals_s = [request.arrival_s for request in make_traffic(is_prefix_counted=True).requests]
    assert arrivals_s == sorted(arrivals_s)


def test_a_seed_decides_everything() -> None:
    """And another seed something else."""
    assert make_traffic(is_prefix_counted=True) == make_traffic(is_prefix_counted=True)
    assert make_traffic(is_prefix_counted=True) != make_traffic(is_prefix_counted=True, seed=2)
