"""Runs in several processes."""

import math

import pytest

from loadtests.replay.parallel import run_all


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_results_are_in_order_and_every_one_is_told(num_jobs: int) -> None:
    """Here or in two spawned processes."""
    told: list[None] = []
    assert run_all(math.sqrt, [4, 9, 16], num_jobs=num_jobs, on_done=lambda: told.append(None)) == [2, 3, 4]
    assert len(told) == 3


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_the_first_error_ends_it(num_jobs: int) -> None:
    """And is the caller's."""
    with pytest.raises(ValueError, match="math domain error"):
        run_all(math.sqrt, [4, -1], num_jobs=num_jobs, on_done=lambda: None)


def test_no_task_is_no_work() -> None:
    """And no process."""
    assert run_all(math.sqrt, [], num_jobs=2, on_done=lambda: None) == []
