"""Sampled requests, from the router's side."""

import uuid

from router import RequestId, hash_tokens
from serve_app.parity.samples import MAX_KEPT, KeySamples, is_sampled


def test_one_in_sixteen_is_sampled() -> None:
    """Of ids as routers make them."""
    num_sampled = sum(is_sampled(RequestId(uuid.uuid4().hex)) for _ in range(16_000))
    assert 800 < num_sampled < 1200


def test_a_sample_is_compared_once() -> None:
    """Equal or not; a second choice's receipt finds nothing, nor does one of another router's request."""
    samples = KeySamples()
    samples.keep(RequestId("a0"), [1, 2, 3])
    samples.keep(RequestId("b0"), [1, 2, 3])
    samples.keep(RequestId("c1"), [1, 2, 3])
    assert len(samples) == 2
    assert samples.agrees(RequestId("a0"), hash_tokens([1, 2, 3])) is True
    assert samples.agrees(RequestId("a0"), hash_tokens([1, 2, 3])) is None
    assert samples.agrees(RequestId("b0"), hash_tokens([1, 2])) is False
    assert samples.agrees(RequestId("c1"), hash_tokens([1, 2, 3])) is None
    assert len(samples) == 0


def test_those_without_a_first_token_are_pushed_out() -> None:
    """Refused and aborted requests."""
    samples = KeySamples()
    for number in range(2 * MAX_KEPT):
        samples.keep(RequestId(f"{number}-0"), [number])
    assert len(samples) == MAX_KEPT
    assert samples.agrees(RequestId("0-0"), hash_tokens([0])) is None
    assert samples.agrees(RequestId(f"{2 * MAX_KEPT - 1}-0"), hash_tokens([2 * MAX_KEPT - 1])) is True
