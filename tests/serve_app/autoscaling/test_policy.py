"""How many replicas are wanted: worked examples, and laws."""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.autoscaling.policy import ReplicaWork, Targets, needed_replicas, wanted_replicas

TARGETS = Targets(prefill_tokens_per_s=10_000, prefill_use=0.5, kv_use=0.8, backlog_s=20, slack=0.2)
LOADS = st.lists(
    st.builds(
        ReplicaWork,
        arriving_tokens_per_s=st.floats(-1e3, 1e5),
        waiting_tokens=st.floats(0, 1e6),
        kv_use=st.floats(0, 1),
    ),
    max_size=6,
)
SOME_LOADS = LOADS.filter(bool)
CURRENT = st.integers(0, 50)


def load(arriving_tokens_per_s: float = 0, waiting_tokens: float = 0, kv_use: float = 0) -> ReplicaWork:
    """A replica's."""
    return ReplicaWork(arriving_tokens_per_s=arriving_tokens_per_s, waiting_tokens=waiting_tokens, kv_use=kv_use)


@pytest.mark.parametrize(
    ("loads", "needed"),
    [
        ([load(5_000), load(5_000)], 2),  # 10,000 over half of 10,000
        ([load(10_000, waiting_tokens=100_000)], 2),  # to catch up: (10,000 + 100,000 / 20) / 10,000, which is less
        ([load(10_000, waiting_tokens=400_000)], 3),  # (10,000 + 400,000 / 20) / 10,000
        ([load(100, kv_use=0.8), load(100, kv_use=0.8)], 2),
        ([load(-500)], 0),  # requests that were withdrawn
        ([load(20_000, kv_use=0.1)], 4),
    ],
)
def test_the_largest_need_counts(loads: list[ReplicaWork], needed: float) -> None:
    """To compute, to catch up, to hold."""
    assert needed_replicas(loads, TARGETS) == pytest.approx(needed)


@pytest.mark.parametrize(
    ("arriving_tokens_per_s", "current", "wanted"),
    [
        (25_000, 4, 5),
        (25_001, 5, 6),
        (20_000, 5, 5),  # four would be enough, without slack
        (16_001, 5, 5),
        (16_000, 5, 4),  # four are used to four fifths of what is meant
        (0, 5, 0),
    ],
)
def test_there_is_a_gap_between_up_and_down(arriving_tokens_per_s: float, current: int, wanted: int) -> None:
    """What lies between changes nothing."""
    assert wanted_replicas([load(arriving_tokens_per_s)], TARGETS, current=current) == wanted


@given(CURRENT)
def test_without_figures_nothing_changes(current: int) -> None:
    """Silence is not idleness."""
    assert wanted_replicas([], TARGETS, current=current) == current


@given(SOME_LOADS, CURRENT)
def test_what_is_wanted_meets_the_targets_and_no_more_than_slack_allows(loads: list[ReplicaWork], current: int) -> None:
    """Never too few, never below 0, never more than the targets with slack ask for."""
    needed = needed_replicas(loads, TARGETS)
    wanted = wanted_replicas(loads, TARGETS, current=current)
    assert 0 <= ceil(needed - 1e-6) <= wanted <= ceil(needed / (1 - TARGETS.slack))


@given(SOME_LOADS, CURRENT, st.integers(0, 5), st.floats(0, 1e5), st.floats(0, 1e6), st.floats(0, 1))
def test_more_of_anything_never_wants_less(
    loads: list[ReplicaWork], current: int, index: int, arriving: float, waiting: float, kv_use: float
) -> None:
    """Of arrivals, of what waits, of memory in use."""
    changed = list(loads)
    one = loads[index % len(loads)]
    changed[index % len(loads)] = ReplicaWork(
        arriving_tokens_per_s=one.arriving_tokens_per_s + arriving,
        waiting_tokens=one.waiting_tokens + waiting,
        kv_use=one.kv_use + kv_use,
    )
    before = wanted_replicas(loads, TARGETS, current=current)
    assert wanted_replicas(changed, TARGETS, current=current) >= before


@given(SOME_LOADS, CURRENT, st.integers(1, 8))
def test_it_does_not_matter_how_many_share_the_work(loads: list[ReplicaWork], current: int, parts: int) -> None:
    """Each split into equal parts: the same work, more replicas that report it."""
    split = [
        ReplicaWork(
            arriving_tokens_per_s=each.arriving_tokens_per_s / parts,
            waiting_tokens=each.waiting_tokens / parts,
            kv_use=each.kv_use / parts,
        )
        for each in loads
        for _ in range(parts)
    ]
    assert needed_replicas(split, TARGETS) == pytest.approx(needed_replicas(loads, TARGETS), abs=1e-6)
    assert abs(wanted_replicas(split, TARGETS, current=current) - wanted_replicas(loads, TARGETS, current=current)) <= 1


@given(SOME_LOADS, CURRENT)
def test_a_decision_stands(loads: list[ReplicaWork], current: int) -> None:
    """The same figures, when it was followed, want the same: no swinging."""
    wanted = wanted_replicas(loads, TARGETS, current=current)
    assert wanted_replicas(loads, TARGETS, current=wanted) == wanted


@given(st.floats(0, 1e6), CURRENT)
def test_a_replicas_lost_cache_does_not_call_it_back(arriving: float, current: int) -> None:
    """Work that grows by less than the slack after a replica went."""
    fewer = wanted_replicas([load(arriving)], TARGETS, current=current)
    after = wanted_replicas([load(arriving / (1 - TARGETS.slack) * 0.999)], TARGETS, current=fewer)
    assert fewer >= current or after == fewer


def test_a_replica_twice_as_fast_halves_what_is_needed() -> None:
    """The speed is a measured one, and all that depends on the machine."""
    fast = replace(TARGETS, prefill_tokens_per_s=20_000)
    assert needed_replicas([load(40_000)], TARGETS) == 2 * needed_replicas([load(40_000)], fast)
