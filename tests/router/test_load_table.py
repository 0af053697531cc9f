"""Loads in order, and their total."""

from hypothesis import given
from hypothesis import strategies as st

from router import ReplicaId
from router.load_table import LoadTable

ONE, TWO, THREE = (ReplicaId(name) for name in ("one", "two", "three"))


def make_table() -> LoadTable:
    """Three idle replicas."""
    table = LoadTable(half_life_s=10)
    for replica_id in (ONE, TWO, THREE):
        table.add(replica_id)
    return table


def test_the_least_loaded_comes_first() -> None:
    """By pending tokens, then requests being decoded, then recent work."""
    table = make_table()
    table.change(ONE, pending_tokens=5)
    table.change(TWO, num_running=1)
    assert list(table.least_loaded_first) == [THREE, TWO, ONE]
    table.change(ONE, pending_tokens=-5, num_running=1)
    table.add_recent(TWO, tokens=100, requests=1)
    assert list(table.least_loaded_first) == [THREE, ONE, TWO]
    table.remove(THREE)
    assert list(table.least_loaded_first) == [ONE, TWO]


def test_recent_work_fades_and_leaves_with_its_replica() -> None:
    """100 and 60 tokens, half of it 10 s later; nothing is left of a replica that is gone, not even rounding."""
    table = make_table()
    table.fade(now=0)
    table.add_recent(ONE, tokens=1e12, requests=1)
    table.add_recent(TWO, tokens=60, requests=2)
    table.fade(now=10)
    assert (table[TWO].recent_tokens, table[TWO].recent_requests) == (30, 1)
    table.remove(ONE)
    assert (table.total.recent_tokens, table.total.recent_requests) == (30, 1)


@given(
    st.lists(
        st.tuples(st.sampled_from([ONE, TWO, THREE]), st.integers(0, 100), st.integers(0, 3), st.floats(0, 10_000)),
        max_size=30,
    )
)
def test_total_and_order_are_those_of_the_loads(changes: list[tuple[ReplicaId, int, int, float]]) -> None:
    """After any changes, and through the ends of epochs."""
    table, now = make_table(), 0.0
    for replica_id, tokens, requests, step_s in changes:
        now += step_s
        table.fade(now=now)
        table.change(replica_id, pending_tokens=tokens, num_waiting=requests)
        table.add_recent(replica_id, tokens=tokens, requests=requests)
        table.check_integrity()
