"""What is made of a run with changes of the number of replicas."""

import pytest

from benchmarks.cost.scaling import (
    ScalingChange,
    ScalingPlan,
    ScalingVariant,
    _numbers,
    dip,
    hit_rate,
    summary,
)
from benchmarks.harness.errors import MeasurementError
from loadtests.client.answers import EventStream, Outcome
from loadtests.client.exchange import Exchange
from serve_app.settings.schema import Settings

PLAN = ScalingPlan((4, 8), 1.0, 20.0, 1)
SETTINGS = Settings(llm={"engine_kwargs": {"num_gpu_blocks_override": 10}}, engine="simulated")


def ended(started_s: float, *, cached: int = 80, outcome: Outcome = Outcome.COMPLETE, seconds: float = 1.0) -> Exchange:
    """One of 100 prompt tokens."""
    stream = EventStream()
    stream.prompt_tokens, stream.cached_tokens = 100, cached
    return Exchange(
        "a", "chat", started_s, outcome=outcome, status=200, first_byte_s=0.2, duration_s=seconds, stream=stream
    )


def result(*exchanges: Exchange, stream: Exchange | None = None, max_late_s: float = 0.0) -> ScalingVariant:
    """A change from 4 to 8 that was asked for at 20 and done at 40; one request a second until 60, and these."""
    steady = [ended(float(second), cached=20 if 40 <= second < 50 else 80) for second in range(60)]
    streams = [stream or ended(19, seconds=200)]
    return ScalingVariant("with", PLAN, [ScalingChange(4, 8, 20.0, 40.0)], [*steady, *exchanges], streams, max_late_s)


def test_the_dip_is_the_lowest_stretch() -> None:
    """And the whole is a ratio of sums."""
    measured = result()
    assert hit_rate(measured.between(0, 20)) == 0.8
    assert hit_rate(measured.between(40, 60)) == 0.5
    assert dip(measured, 40, 60) == 0.2
    assert hit_rate([]) == 0.0


def test_a_row_says_what_was_before_meanwhile_and_after() -> None:
    """Of each variant."""
    table = summary([result()], SETTINGS)
    assert [next(iter(column.cells)) for column in table.columns] == [
        *("4 to 8", "with", "20", "0.800", "0.800", "0.500", "0.200"),
        *(["200"] * 6),
    ]
    assert "simulated engines" in str(table.title)


@pytest.mark.parametrize(
    ("measured", "faults"),
    [
        (result(), []),
        (result(ended(5, outcome=Outcome.CUT)), ["with: requests: cut: 1"]),
        (result(stream=ended(19, seconds=200, outcome=Outcome.CUT)), ["with: streams: cut: 1"]),
        (result(stream=ended(19, seconds=100)), ["with: 1 streams were shorter than 150 s"]),
        (result(max_late_s=3.0), ["with: requests were sent up to 3.0 s late"]),
    ],
)
def test_what_must_not_be_is_named(measured: ScalingVariant, faults: list[str]) -> None:
    """Failures, cut streams, and a run that shows less than it should."""
    assert measured.faults() == faults


@pytest.mark.parametrize("text", ["4", "4,x", "0,4"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    """With what would do."""
    with pytest.raises(MeasurementError, match=f"--replicas {text}: two numbers or more, each at least 1"):
        _numbers(text)
