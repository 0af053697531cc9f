"""What is concluded from minutes of overload."""

from typing import Any

import pytest

from benchmarks.live.failures.sustained import LoadPhase, SustainedOutcome, SustainedPlan, lines
from loadtests.client.answers import Outcome
from loadtests.client.exchange import Exchange

PLAN = SustainedPlan(factor=3, overload_s=10, calm_s=5, slo_s=4, recovery_s=2, seed=1)
END_S = 100.0


def served(ttft_s: float, started_s: float = 0.0) -> Exchange:
    """A whole answer."""
    return Exchange("1", "chat", started_s, Outcome.COMPLETE, status=200, first_byte_s=ttft_s, duration_s=ttft_s)


def refused(started_s: float = 0.0, retry_after: str | None = "3") -> Exchange:
    """Shed."""
    return Exchange("1", "chat", started_s, Outcome.REFUSED, status=429, retry_after=retry_after, duration_s=0.01)


def result(*, late_s: float = 0.0, **phases: Any) -> SustainedOutcome:
    """By default as it should be."""
    exchanges = {
        LoadPhase.CALM: [served(0.5)] * 100,
        LoadPhase.OVERLOAD: [*[served(3.0)] * 20, refused()],
        LoadPhase.AFTERWARDS: [served(0.4, END_S + number) for number in range(5)],
    }
    exchanges |= {LoadPhase(name): rows for name, rows in phases.items()}
    return SustainedOutcome(PLAN, "simulated", 2.0, exchanges, END_S, late_s)


def test_shedding_within_the_promise_is_as_it_must_be() -> None:
    """And what was served is told as a share of the capacity."""
    assert result().faults() == []
    assert result().recovered_s == 0
    assert lines(result())[0] == "Served under overload: 2.0 requests/s, 1.00 of capacity."


@pytest.mark.parametrize(
    ("phases", "fault"),
    [
        ({"overload": [served(3.0)]}, "nothing was refused"),
        ({"overload": [served(3.0), refused(retry_after=None)]}, "1 refusals had no Retry-After"),
        ({"overload": [*[served(9.0)] * 9, refused()]}, "p95 to the first token 9.0 s, not 4.0"),
        ({"calm": [served(0.5), Exchange("1", "chat", 0, Outcome.CUT, duration_s=1)]}, "calm: cut: 1"),
        ({"afterwards": [served(0.4, END_S), served(0.9, END_S + 7)]}, "normal again only after 7 s"),
        ({"afterwards": [served(0.4, END_S), refused(END_S + 3)]}, "normal again only after 3 s"),
    ],
)
def test_what_must_not_be_is_said(phases: dict[str, list[Exchange]], fault: str) -> None:
    """One fault each."""
    (said,) = result(**phases).faults()
    assert fault in said


def test_a_sender_that_does_not_keep_up_has_shown_nothing() -> None:
    """There was less load than the run says."""
    assert result(late_s=2.0).faults() == ["requests were sent up to 2.0 s late: there was less load than wanted"]


def test_one_in_a_hundred_may_be_slow_afterwards_as_before() -> None:
    """The bound is a percentile of the calm before."""
    afterwards = [served(0.4, END_S + number / 10) for number in range(99)]
    assert result(afterwards=[*afterwards, served(2.0, END_S + 9)]).recovered_s == 0
    assert result(afterwards=[*afterwards[1:], *[served(2.0, END_S + 8), served(2.0, END_S + 9)]]).recovered_s == 8


def test_as_many_may_be_refused_afterwards_as_before() -> None:
    """Two of a hundred were, when it was calm: so the last two do not count, and the third last does."""
    calm = [*[served(0.5)] * 98, *[refused()] * 2]
    well = [served(0.4, END_S + number / 10) for number in range(97)]
    odd = [refused(END_S + number) for number in (6, 20, 30)]
    assert result(calm=calm, afterwards=[*well, *odd]).recovered_s == 6
    assert result(calm=calm, afterwards=[served(0.4, END_S), *well, *odd[1:]]).recovered_s == 0
