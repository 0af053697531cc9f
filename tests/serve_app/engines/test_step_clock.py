"""The time that a simulated engine's steps take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.engines.step_clock import StepClock, num_attended
from serve_app.settings.schema import EngineModelSettings

MODEL = EngineModelSettings(step_s=0.01, prefill_tokens_per_s=1000, decode_s=0.002, decode_context_s=0.000_01)


class Time:
    """Passes only by sleeping, or when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def clock(self) -> float:
        """Seconds."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        self.now_s += seconds


def test_a_step_costs_its_base_its_prompt_tokens_and_its_sequences() -> None:
    """10 ms + 500 tokens at 1,000 a second + 3 x 2 ms."""
    time = Time()
    StepClock(MODEL, clock=time.clock, sleep=time.sleep).step(prefill_tokens=500, num_decoding=3)
    assert time.now_s == pytest.approx(100 + 0.01 + 0.5 + 0.006)


def test_contexts_cost_by_their_tokens() -> None:
    """In addition to a step and two sequences, 3,000 tokens of 10 us."""
    time = Time()
    StepClock(MODEL, clock=time.clock, sleep=time.sleep).step(prefill_tokens=0, num_decoding=2, decoding_tokens=3000)
    assert time.now_s == pytest.approx(100 + 0.01 + 0.004 + 0.03)


def test_attention_costs_by_what_is_attended() -> None:
    """In addition, 100 tokens that look at 2,000 each, and by half at each other: 205,000 pairs of 1 us."""
    time = Time()
    model = MODEL.model_copy(update={"attention_s": 1e-6})
    pairs = num_attended(100, num_before=2000)
    StepClock(model, clock=time.clock, sleep=time.sleep).step(prefill_tokens=100, num_attended=pairs, num_decoding=0)
    assert time.now_s == pytest.approx(100 + 0.01 + 0.1 + 0.205)


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.integers(0, 100_000))
def test_chunks_attend_to_as_much_as_the_whole(before: int, first: int, second: int) -> None:
    """However a prompt is cut; and from its start it is half a square."""
    chunks = num_attended(first, num_before=before) + num_attended(second, num_before=before + first)
    assert chunks == num_attended(first + second, num_before=before)
    assert num_attended(first, num_before=0) == first**2 / 2


def test_what_passes_between_two_steps_is_part_of_the_second() -> None:
    """The scheduler's own time is in the measured constants."""
    time = Time()
    steps = StepClock(MODEL, clock=time.clock, sleep=time.sleep)
    steps.step(prefill_tokens=0, num_decoding=1)
    time.now_s += 0.004
    steps.step(prefill_tokens=0, num_decoding=1)
    assert time.now_s == pytest.approx(100 + 2 * 0.012)


def test_a_step_after_a_pause_begins_when_it_is_asked_for() -> None:
    """An idle engine saves up no time."""
    time = Time()
    steps = StepClock(MODEL, clock=time.clock, sleep=time.sleep)
    steps.step(prefill_tokens=0, num_decoding=1)
    time.now_s = 200.0
    steps.step(prefill_tokens=0, num_decoding=1)
    assert time.now_s == pytest.approx(200.012)


def test_a_scheduler_slower_than_the_steps_is_not_waited_for() -> None:
    """The step is over at once, and no debt is carried on."""
    time = Time()
    steps = StepClock(MODEL, clock=time.clock, sleep=time.sleep)
    steps.step(prefill_tokens=0, num_decoding=0)
    time.now_s += 0.015
    before_s = time.now_s
    steps.step(prefill_tokens=0, num_decoding=0)
    assert time.now_s == before_s
