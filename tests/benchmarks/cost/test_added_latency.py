"""The parts of what the way adds."""

import pytest

from benchmarks.cost.added_latency import BARE, DECISION, GET_BARE, GET_THROUGH, NOTED, THROUGH, Timings, added_table


def test_the_parts_are_what_is_added() -> None:
    """Differences are taken within rounds, so that a slow round is slow for both."""
    timings = Timings(
        1000,
        {
            BARE: [0.020, 0.050, 0.021],
            THROUGH: [0.025, 0.056, 0.026],
            NOTED: [0.0205, 0.0505, 0.0215],
            GET_THROUGH: [0.003, 0.031, 0.003],
            GET_BARE: [0.002, 0.030, 0.002],
            DECISION: [0.0015, 0.0015, 0.0015],
        },
    )
    parts = timings.parts_ms()
    assert list(parts.values()) == pytest.approx([1.5, 1.0, 0.5, 2.0])
    assert sum(parts.values()) == pytest.approx(timings.added_ms(50)) == pytest.approx(5.0)
    assert added_table([timings]).row_count == 7
