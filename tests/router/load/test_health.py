"""Exclusions: what leads to them, and that each of them ends."""

from hypothesis import given
from hypothesis import strategies as st

from router.load.health import Exclusion, Health
from router.types import ReplicaId

ONE = ReplicaId("one")


def make_health() -> Health:
    """One replica; silent after 1 s, out for at most 10 s, tried again 2 s after a failed connection."""
    health = Health(silence_s=1, exclusion_s=10, retry_s=2)
    health.add_replica(ONE)
    return health


def test_a_new_replica_is_in_the_choice() -> None:
    """Unheard of is not silent."""
    health = make_health()
    assert health.exclusion(ONE, now=1000) is None
    assert health.heard_s_ago(ONE, now=1000) is None


def test_silence_excludes_until_it_is_broken_or_has_lasted() -> None:
    """Out from 1 s to 11 s after its last word; then it gets its chance; a word ends it at once."""
    health = make_health()
    health.heard(ONE, is_serving=True, now=100)
    seen = {now: health.exclusion(ONE, now=now) for now in (100.5, 101, 110.5, 111)}
    assert seen == {100.5: None, 101: Exclusion.SILENT, 110.5: Exclusion.SILENT, 111: None}
    health.heard(ONE, is_serving=True, now=105)
    assert health.exclusion(ONE, now=105) is None
    assert health.heard_s_ago(ONE, now=105.5) == 0.5


def test_its_own_word_excludes_at_once_and_until_taken_back() -> None:
    """Renewed by each heartbeat that says so."""
    health = make_health()
    health.heard(ONE, is_serving=False, now=0)
    assert health.exclusion(ONE, now=0) is Exclusion.NOT_SERVING
    health.heard(ONE, is_serving=False, now=9)
    assert health.exclusion(ONE, now=18) is Exclusion.NOT_SERVING
    health.heard(ONE, is_serving=True, now=18)
    assert health.exclusion(ONE, now=18) is None


def test_a_failed_connection_excludes_for_a_moment() -> None:
    """Heartbeats prove that it lives, not that it can be reached."""
    health = make_health()
    health.connection_failed(ONE, now=0)
    health.heard(ONE, is_serving=True, now=1.5)
    assert health.exclusion(ONE, now=1.5) is Exclusion.UNREACHABLE
    assert health.exclusion(ONE, now=2) is None


def test_events_of_replicas_that_are_gone_are_ignored() -> None:
    """Late words of a replica that left."""
    health = make_health()
    health.remove_replica(ONE)
    health.heard(ONE, is_serving=False, now=0)
    health.connection_failed(ONE, now=0)
    health.add_replica(ONE)
    assert health.exclusion(ONE, now=0) is None


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["serving", "not serving", "failed"])), max_size=20))
def test_every_exclusion_ends(events: list[tuple[float, str]]) -> None:
    """11 s after the last evidence of any kind, the replica is eligible again."""
    health = make_health()
    now = 0.0
    for seconds, event in events:
        now += seconds
        if event == "failed":
            health.connection_failed(ONE, now=now)
        else:
            health.heard(ONE, is_serving=event == "serving", now=now)
    assert health.exclusion(ONE, now=now + 11.001) is None


events = st.lists(
    st.tuples(st.sampled_from(["heard", "dying", "failed", "left"]), st.integers(0, 2), st.floats(0, 8)), max_size=40
)


@given(events)
def test_who_is_excluded_is_never_stale(events: list[tuple[str, int, float]]) -> None:
    """What is remembered between two decisions is what one would find by asking for each replica."""
    health = Health(silence_s=1, exclusion_s=10, retry_s=2)
    ids = [ReplicaId(str(number)) for number in range(3)]
    for replica_id in ids:
        health.add_replica(replica_id)
    now = 0.0
    for event, number, step_s in events:
        now += step_s
        match event:
            case "heard" | "dying":
                health.heard(ids[number], is_serving=event == "heard", now=now)
            case "failed":
                health.connection_failed(ids[number], now=now)
            case "left":
                health.remove_replica(ids[number])
                health.add_replica(ids[number])
        for later_s in (0.0, 0.5, 1.5):
            expected = {each: health.exclusion(each, now=now + later_s) for each in ids}
            found = health.excluded(now=now + later_s)
            assert found == {each: exclusion for each, exclusion in expected.items() if exclusion is not None}
        now += 1.5
