"""Sessions are shared by processes, each one's once, and begin when they would in one process."""

import statistics
from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from loadtests.locust_kit.share import SessionShare

NUM_PROCESSES = st.integers(1, 9)


@given(num_processes=NUM_PROCESSES, num_sessions=st.integers(1, 60))
def test_processes_share_all_sessions_and_none_twice(num_processes: int, num_sessions: int) -> None:
    """In each its own order is kept."""
    numbers = [list(SessionShare(index, num_processes).numbers(num_sessions)) for index in range(num_processes)]
    assert sorted(number for each in numbers for number in each) == list(range(num_sessions))
    assert all(each == sorted(each) for each in numbers)


def test_without_a_number_sessions_have_no_end() -> None:
    """The second of three has every third."""
    assert list(islice(SessionShare(1, 3).numbers(0), 4)) == [1, 4, 7, 10]


@given(num_processes=NUM_PROCESSES, num_sessions=st.integers(1, 60), seed=st.integers(0, 99))
def test_arrivals_do_not_depend_on_the_number_of_processes(num_processes: int, num_sessions: int, seed: int) -> None:
    """Session by session."""
    shares = [
        SessionShare(index, num_processes).arrivals(num_sessions, rate=2, seed=seed) for index in range(num_processes)
    ]
    together = sorted(arrival for each in shares for arrival in each)
    assert together == list(SessionShare(0, 1).arrivals(num_sessions, rate=2, seed=seed))


def test_arrivals_are_a_poisson_process() -> None:
    """Gaps have the mean that the rate says, and as much deviation as mean."""
    times_s = [time_s for time_s, _ in SessionShare(0, 1).arrivals(20_000, rate=4, seed=1)]
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert abs(statistics.fmean(gaps_s) - 0.25) < 0.01
    assert abs(statistics.stdev(gaps_s) - 0.25) < 0.01
