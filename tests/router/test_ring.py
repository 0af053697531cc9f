"""The ring and the bounded-load rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import BlockHash
from router.ring import Ring, bound

ranks = st.sets(st.integers(0, 40), min_size=1, max_size=8)
keys = st.integers(0, 2**64 - 1).map(BlockHash)


@given(ranks, keys)
def test_successors_are_every_rank_once(members: set[int], key: BlockHash) -> None:
    """The walk ends with everybody, so a caller can always go on to the next."""
    assert sorted(Ring(members, virtual_nodes=16).successors(key)) == sorted(members)


@given(ranks.filter(lambda members: len(members) > 1), st.lists(keys, min_size=20), st.data())
def test_removing_a_replica_moves_only_its_keys(members: set[int], some: list[BlockHash], data: st.DataObject) -> None:
    """The order of the others stays, so its keys go to their next successor, and no other keys move."""
    gone = data.draw(st.sampled_from(sorted(members)))
    before, after = Ring(members, virtual_nodes=16), Ring(members - {gone}, virtual_nodes=16)
    for key in some:
        assert list(after.successors(key)) == [rank for rank in before.successors(key) if rank != gone]


@given(ranks, keys)
def test_successors_are_in_order_of_distance(members: set[int], key: BlockHash) -> None:
    """So that any candidates can be put in ring order without walking the ring."""
    ring = Ring(members, virtual_nodes=16)
    assert list(ring.successors(key)) == sorted(members, key=lambda rank: ring.distance(key, rank))


@given(st.sets(st.integers(0, 20), min_size=1, max_size=8))
def test_shares_are_of_all_keys(members: set[int]) -> None:
    """The shares add up to all keys and, with enough points, are nearly equal."""
    ring = Ring(members, virtual_nodes=512)
    shares = [ring.share(rank) for rank in members]
    assert sum(shares) == pytest.approx(1)
    assert all(share == pytest.approx(1 / len(members), rel=0.3) for share in shares)


def test_a_share_is_how_many_keys_are_owned() -> None:
    """Counted."""
    ring = Ring({1, 5}, virtual_nodes=4)
    owners = [next(ring.successors(BlockHash(number * 2**50))) for number in range(2**14)]
    assert owners.count(5) / len(owners) == pytest.approx(ring.share(5), abs=0.001)


def test_keys_spread_evenly() -> None:
    """Each of 4 replicas with 128 virtual nodes owns a quarter of the keys, within a third."""
    ring = Ring(range(4), virtual_nodes=128)
    owners = [next(ring.successors(BlockHash(number * 2**50))) for number in range(2**14)]
    for rank in range(4):
        assert owners.count(rank) / len(owners) == pytest.approx(0.25, rel=1 / 3)


def test_virtual_nodes_of_different_ranks_never_meet() -> None:
    """Rank 1, node 10 and rank 11, node 0 once shared a point in a ring that joined them without a separator."""
    ring = Ring((1, 11), virtual_nodes=32)
    assert len(set(ring._point_hashes)) == 64


def test_an_empty_ring_has_no_successors() -> None:
    """Asked before the first replica is known."""
    assert list(Ring((), virtual_nodes=8).successors(BlockHash(1))) == []


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=16), st.floats(1, 4), st.integers(0, 10**5))
def test_some_replica_is_always_within_bound(loads: list[int], load_factor: float, margin_tokens: int) -> None:
    """The lemma: tested before insertion, the least loaded passes whatever the size of the request."""
    mean_load_tokens = sum(loads) / len(loads)
    assert min(loads) <= bound(mean_load_tokens, load_factor=load_factor, margin_tokens=margin_tokens)


@pytest.mark.parametrize(("mean_load_tokens", "expected"), [(0, 50), (100, 150), (200, 250), (400, 500)])
def test_the_bound_is_the_larger_of_factor_and_margin(mean_load_tokens: int, expected: int) -> None:
    """Factor 1.25, margin 50: a quarter of a small mean is noise."""
    assert bound(mean_load_tokens, load_factor=1.25, margin_tokens=50) == expected
