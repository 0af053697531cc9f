"""How far two sequences are alike from their start."""

from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit.common_prefix import common_prefix

short = st.lists(st.integers(0, 2), max_size=9)


@given(short, short, short)
def test_the_prefix_is_common_and_no_longer_one_is(start: list[int], one: list[int], other: list[int]) -> None:
    """Either order gives the same, and lists and texts do."""
    one, other = start + one, start + other
    length = common_prefix(one, other)
    assert len(start) <= length
    assert one[:length] == other[:length]
    assert length == min(len(one), len(other)) or one[length] != other[length]
    assert common_prefix(other, one) == length
    assert common_prefix("".join(map(str, one)), "".join(map(str, other))) == length
