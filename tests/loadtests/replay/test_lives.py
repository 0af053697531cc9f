"""When replicas were there, and how many that makes."""

from loadtests.replay.lives import ReplicaLife, most_replicas, num_changes, replica_seconds

LIVES = (ReplicaLife(0), ReplicaLife(0, left_s=50, gone_s=60), ReplicaLife(30), ReplicaLife(50, left_s=80, gone_s=80))


def test_seconds_are_from_the_order_to_the_end_of_the_last_request() -> None:
    """Worked by hand: 100, 60, 70 and 30; with a start of 10 s the later two take so much longer."""
    assert replica_seconds(LIVES, start_s=0, end_s=100) == 100 + 60 + 70 + 30
    assert replica_seconds(LIVES, start_s=0, end_s=100, starting_s=10) == 100 + 60 + 80 + 40
    assert replica_seconds(LIVES, start_s=55, end_s=70, starting_s=10) == 15 + 5 + 15 + 15


def test_most_are_those_that_serve_at_once() -> None:
    """Who leaves when another joins is not there together with it."""
    assert most_replicas(LIVES, start_s=0, end_s=100) == 3
    assert most_replicas(LIVES, start_s=0, end_s=20) == 2
    assert most_replicas(LIVES, start_s=90, end_s=100) == 2
    assert most_replicas((), start_s=0, end_s=1) == 0


def test_changes_are_times_not_replicas() -> None:
    """The first ones change nothing; a leave and a join at once are one change."""
    assert num_changes(LIVES, start_s=0, end_s=100) == 3
    assert num_changes(LIVES, start_s=30, end_s=50) == 1
