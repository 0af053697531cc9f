"""Keys that move."""

from benchmarks.virtual.scenarios.ring_moves import run


def test_only_keys_of_the_one_that_comes_or_goes_move() -> None:
    """About an even share of them, and none between the others."""
    leave, join = run(4, virtual_nodes=128)
    assert (leave.change, join.change) == ("leave", "join")
    assert 0.2 < leave.mean_moved_rate < 0.3
    assert 0.15 < join.mean_moved_rate < 0.25
    for row in (leave, join):
        assert row.mean_moved_rate <= row.most_moved_rate <= 1
        assert row.allowed_rate == 0.27
        assert row.astray_rate == 0


def test_few_virtual_nodes_move_more_than_allowed() -> None:
    """With one point each, somebody owns much more than an even share."""
    leave, _ = run(8, virtual_nodes=1)
    assert leave.most_moved_rate > leave.allowed_rate
