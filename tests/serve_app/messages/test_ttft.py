"""Times to first token, added up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import CacheRecord, ReplicaId, RequestId
from serve_app.messages.ttft import BOUNDS_S, Histogram, Ttft, is_warm

times = st.lists(st.floats(0, 100), min_size=1, max_size=40)


@given(times, st.floats(0.01, 1))
def test_a_quantile_is_in_the_class_of_the_time_it_stands_for(seconds: list[float], share: float) -> None:
    """Of the last class only its start is known."""
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    estimate = histogram.quantile_s(share)
    assert estimate is not None
    exact = sorted(seconds)[max(0, -int(-share * len(seconds) // 1) - 1)]
    above = next((bound for bound in BOUNDS_S if exact <= bound), BOUNDS_S[-1])
    below = max((bound for bound in BOUNDS_S if bound < exact), default=0.0)
    assert below <= estimate <= above or estimate == pytest.approx(below) or estimate == pytest.approx(above)
    assert histogram.mean_s == pytest.approx(sum(seconds) / len(seconds))


def test_without_any_there_is_no_time() -> None:
    """Nothing is not zero."""
    assert (Histogram().mean_s, Histogram().quantile_s(0.5), Histogram().number) == (None, None, 0)


@pytest.mark.parametrize(("reused", "expected"), [(0, False), (49, False), (50, True), (99, True)])
def test_half_of_a_prompt_makes_it_warm(reused: int, *, expected: bool) -> None:
    """As in the load tests."""
    record = CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", 100, reused, reused, reused, {})
    assert is_warm(record) is expected


def test_times_add_up() -> None:
    """Kind by kind, as if all had been counted in one place."""
    one, other, both = Ttft(), Ttft(), Ttft()
    for ttft, seconds, warm in ((one, 0.3, True), (one, 70, False), (other, 0.3, True), (other, 0.01, False)):
        ttft.add(seconds, is_warm=warm)
        both.add(seconds, is_warm=warm)
    one.merge(other)
    assert one == both
