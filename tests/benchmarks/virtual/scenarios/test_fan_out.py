"""Over how many replicas a prefix is spread, on worked examples."""

from math import inf, isnan

from benchmarks.virtual.scenarios.fan_out import NUM_SEEN, FanOut
from tests.benchmarks.virtual.scenarios.records import make_record


def make_fan_out(*replicas: int) -> FanOut:
    """A hot request each even second, served by these; each odd second another request, by replica 9."""
    hot = [make_record(2.0 * number, replica) for number, replica in enumerate(replicas)]
    others = [make_record(each.arrival_s + 1, 9) for each in hot]
    return FanOut([*reversed(hot), *others], frozenset(each.arrival_s for each in hot))


def test_only_the_requests_with_the_prefix_count() -> None:
    """The last ones before a position, and the next ones from it on."""
    fan_out = make_fan_out(0, 1, 1, 2)
    assert [fan_out.before(fan_out.position(time_s)) for time_s in (0, 0.5, 2.5, 5, 9)] == [0, 1, 2, 2, 3]
    assert [fan_out.after(fan_out.position(time_s)) for time_s in (0, 0.5, 2.5, 5, 9)] == [3, 2, 2, 1, 0]


def test_the_main_share_is_of_the_replica_with_the_most() -> None:
    """Three of the next four; of nothing it is not a number."""
    assert make_fan_out(7, 1, 1, 2, 1).main_share(2) == 0.75
    assert isnan(make_fan_out(1).main_share(9))


def test_what_is_long_past_is_forgotten() -> None:
    """Twenty replicas in turn, then one of them for as long as is looked back; the most were seen in the beginning."""
    fan_out = make_fan_out(*range(20), *[0] * NUM_SEEN)
    assert fan_out.before(40) == 20
    assert fan_out.before(2 * (20 + NUM_SEEN)) == 1
    assert fan_out.most(0, 1000) == 20
    assert fan_out.most(2 * (19 + NUM_SEEN), 1000) == 1 + 1  # the last of the others is still seen


def test_a_prefix_is_gathered_when_one_replica_gets_enough_in_a_row() -> None:
    """Requests of all kinds count until then, from the first of those in a row; fewer in a row do not."""
    assert make_fan_out(1, 2, 0, *[1] * NUM_SEEN).num_until_one(0) == 6
    assert make_fan_out(1, 2, 0, *[1] * NUM_SEEN).num_until_one(5) == 1
    assert make_fan_out(1, 2, 0, *[1] * (NUM_SEEN - 1)).num_until_one(0) == inf
