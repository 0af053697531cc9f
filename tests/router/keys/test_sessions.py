"""Sessions as keys of the ring."""

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from router import session_key


def test_a_session_has_a_key_and_no_name() -> None:
    """The worked example; without a name there is no session, so that requests without one have nothing in common."""
    assert session_key("ann") == xxhash.xxh3_64_intdigest(b"ann")
    assert session_key("") is None


@given(name=st.text(min_size=1), other=st.text(min_size=1))
def test_equal_names_have_equal_keys(name: str, other: str) -> None:
    """The key is the same in every router, differs between names, and has 64 bits."""
    key = session_key(name)
    assert key is not None
    assert 0 <= key < 2**64
    assert (session_key(other) == key) == (other == name)
