"""Which cells, in which order, with which sessions."""

from itertools import islice, pairwise
from statistics import fmean

import pytest

from loadtests.bench.traffic import read_traffic
from loadtests.workloads import TextsError
from tests.loadtests.bench.builders import plan


def test_each_repetition_has_every_cell_once_in_an_order_of_its_own() -> None:
    """So that a drift of the machine meets all routings."""
    some = plan()
    cells = list(some.cells())
    assert len(cells) == len(set(cells)) == some.num_cells == 24
    by_repetition = [[each for each in cells if each.repetition == number] for number in range(3)]
    assert [each.repetition for each in cells] == [0] * 8 + [1] * 8 + [2] * 8, "one repetition after the other"
    orders = [[(each.workload, each.load, each.routing) for each in part] for part in by_repetition]
    assert orders[0] != orders[1], "shuffled anew"
    assert sorted(orders[0]) == sorted(orders[1])


def test_the_same_seed_gives_the_same_plan() -> None:
    """And another one does not."""
    assert list(plan(seed=3).cells()) == list(plan(seed=3).cells())
    assert list(plan(seed=3).cells()) != list(plan(seed=4).cells())
    assert plan(seed=3).sessions("chat", 0) == plan(seed=3).sessions("chat", 0)
    assert plan(seed=3).sessions("chat", 0) != plan(seed=4).sessions("chat", 0)


def test_repetitions_have_sessions_of_their_own() -> None:
    """The capacity run too; routings and loads of a repetition share theirs, for nothing tells them apart."""
    some = plan()
    ids = [{each.session_id for each in some.sessions("chat", number)} for number in (0, 1)]
    assert not ids[0] & ids[1]
    assert all(ids)
    capacity_ids = {each.session_id for each in islice(some.capacity_sessions("chat"), 10)}
    assert len(capacity_ids) == 10
    assert not capacity_ids & (ids[0] | ids[1])


def test_arrivals_are_a_poisson_process_that_the_rate_stretches() -> None:
    """Mean gap of 1/rate, and the same pattern at every rate."""
    some = plan()
    slow = some.starts_s("chat", 0, num_sessions=2000, sessions_per_s=2.0)
    fast = some.starts_s("chat", 0, num_sessions=2000, sessions_per_s=4.0)
    assert slow[0] == 0.0
    assert fmean(later - earlier for earlier, later in pairwise(slow)) == pytest.approx(0.5, rel=0.1)
    assert slow == pytest.approx([2 * each for each in fast])
    assert slow != some.starts_s("chat", 1, num_sessions=2000, sessions_per_s=2.0)


def test_a_cell_has_as_many_sessions_as_make_its_requests() -> None:
    """And not one more."""
    sessions = plan(num_requests=30).sessions("chat", 0)
    num_turns = [len(each.turns) for each in sessions]
    assert sum(num_turns[:-1]) < 30 <= sum(num_turns)
    assert len(plan(num_requests=30).sessions("one_shot", 0)) == 30


def test_one_shot_traffic_is_always_measured() -> None:
    """Named or not, and once."""
    assert [each.name for each in read_traffic(["chat", "chat"])] == ["chat", "one_shot"]
    assert [each.name for each in read_traffic(["one_shot", "mix"])] == ["one_shot", "mix"]


def test_texts_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a source in the folder of texts."""

    def read(path: object) -> None:
        raise TextsError(f"no texts of {path}")

    monkeypatch.setattr("loadtests.bench.traffic.read_texts", read)
    with pytest.raises(TextsError, match="no texts of oasst"):
        read_traffic(["oasst"])
