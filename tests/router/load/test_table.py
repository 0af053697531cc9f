"""Loads in order, and their total."""

from hypothesis import given
from hypothesis import strategies as st

from router import ReplicaId
from router.load.table import LoadChange, LoadTable

ONE, TWO, THREE = (ReplicaId(name) for name in ("one", "two", "three"))


def make_table() -> LoadTable:
    """Three idle replicas."""
    table = LoadTable(half_life_s=10)
    for replica_id in (ONE, TWO, THREE):
        table.add(replica_id)
    return table


def test_the_least_loaded_comes_first() -> None:
    """The order is by pending tokens, then requests being decoded, then recent work."""
    table = make_table()
    table.change(ONE, LoadChange(pending_tokens=5))
    table.change(TWO, LoadChange(num_running=1))
    assert list(table.least_loaded_first) == [THREE, TWO, ONE]
    table.change(ONE, LoadChange(pending_tokens=-5, num_running=1))
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
        st.tuples(st.sampled_from([ONE, TWO, THREE]), st.integers(0, 100), st.integers(1, 3), st.floats(0, 10_000)),
        max_size=30,
    )
)
def test_total_and_order_are_those_of_the_loads(changes: list[tuple[ReplicaId, int, int, float]]) -> None:
    """After any changes, and through the ends of epochs."""
    table, now = make_table(), 0.0
    for replica_id, tokens, requests, step_s in changes:
        now += step_s
        table.fade(now=now)
        change = LoadChange(
            pending_tokens=tokens,
            pending_s=tokens / 7,
            num_waiting=requests,
            num_running=1,
            waiting_answer_tokens=tokens / 3,
            running_answer_tokens=tokens / 9,
            running_prompt_tokens=tokens,
        )
        table.change(replica_id, change)
        table.add_recent(replica_id, tokens=tokens, requests=requests)
        table.check_integrity()


def test_what_rounding_leaves_of_fractions_goes_with_the_last_request() -> None:
    """0.1 and 0.2 make a little more than 0.3, and with no sequence waiting or running, nothing is left of it."""
    table = make_table()
    for tokens in (0.1, 0.2):
        table.change(ONE, LoadChange(num_waiting=1, pending_s=tokens, waiting_answer_tokens=tokens))
        table.change(ONE, LoadChange(num_running=1, running_answer_tokens=tokens))
    table.change(ONE, LoadChange(num_waiting=-2, pending_s=-0.3, waiting_answer_tokens=-0.3))
    assert (table[ONE].pending_s, table[ONE].waiting_answer_tokens) == (0, 0)
    assert table[ONE].running_answer_tokens == 0.1 + 0.2
    table.change(ONE, LoadChange(num_running=-2, running_answer_tokens=-0.3))
    assert table[ONE].running_answer_tokens == table.total.running_answer_tokens == 0
