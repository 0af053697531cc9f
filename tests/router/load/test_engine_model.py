"""Work in tokens, as time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import EngineModel

MODEL = EngineModel(
    step_s=0.01, prefill_tokens_per_s=1000, attention_s=0.000_001, decode_s=0.002, decode_context_s=0.000_000_1
)
tokens = st.integers(0, 100_000)


@pytest.mark.parametrize(
    ("num_tokens", "num_before", "expected_s"),
    [
        (0, 0, 0),
        (0, 5000, 0),
        (1000, 0, 1 + 0.5),  # a token looks at 500 others on average
        (1000, 1000, 1 + 1.5),
        (2000, 0, 2 + 2),  # twice as long, four times the pairs
    ],
)
def test_prefill(num_tokens: int, num_before: int, expected_s: float) -> None:
    """1 ms a token, and 1 us for each one that it looks at."""
    assert MODEL.prefill_s(num_tokens, num_before=num_before) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("num_sequences", "context_tokens", "expected_s"), [(0, 0, 0), (1, 0, 0.002), (10, 50_000, 0.02 + 0.005)]
)
def test_decode(num_sequences: int, context_tokens: int, expected_s: float) -> None:
    """2 ms a sequence, and 0.1 us a token of its context."""
    assert MODEL.decode_step_s(num_sequences, context_tokens=context_tokens) == pytest.approx(expected_s)


@given(first=tokens, second=tokens, num_before=tokens)
def test_a_prompt_takes_as_long_as_its_parts(first: int, second: int, num_before: int) -> None:
    """The number of steps in which a prompt is computed does not matter."""
    parts_s = MODEL.prefill_s(first, num_before=num_before) + MODEL.prefill_s(second, num_before=num_before + first)
    assert MODEL.prefill_s(first + second, num_before=num_before) == pytest.approx(parts_s)


@given(num_tokens=tokens, num_before=tokens)
def test_what_is_cached_is_never_dearer_than_what_is_not(num_tokens: int, num_before: int) -> None:
    """A prompt with a cached prefix takes at most as long as the whole prompt."""
    whole_s = MODEL.prefill_s(num_before + num_tokens, num_before=0)
    assert MODEL.prefill_s(num_tokens, num_before=num_before) <= whole_s + 1e-9
