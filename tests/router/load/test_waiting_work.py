"""Which of those that wait are longer than another, and by how much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.waiting_work import WaitingWork

SECONDS = st.floats(0, 100)


@given(st.lists(st.tuples(SECONDS, st.booleans())), st.lists(SECONDS, max_size=5))
def test_it_is_the_sum_over_those_that_wait(seconds: list[tuple[float, bool]], asked: list[float]) -> None:
    """However they came, asked in between or not; some wait no more."""
    work = WaitingWork()
    for each_s, _ in seconds:
        work.add(each_s)
        work.beyond_s(each_s)
    waiting = [each_s for each_s, stays in seconds if stays]
    for each_s, stays in seconds:
        if not stays:
            work.remove(each_s)
    work.check_integrity(waiting)
    for prefill_s in (*asked, *waiting):
        expected_s = sum(max(0.0, each_s - prefill_s) for each_s in waiting)
        assert work.beyond_s(prefill_s) == pytest.approx(expected_s, abs=1e-6)
