"""Ray's tree under its router's rule. Prompts are of 16-token blocks and one token: four characters a block."""

from pathlib import Path

import pytest

from router import Reason
from tests.loadtests.replay.rivals.builders import Cluster


@pytest.fixture
def cluster() -> Cluster:
    """Three replicas, which the tree knows."""
    cluster = Cluster("ray_prefix", num_replicas=3)
    cluster.chosen(1)
    return cluster


def test_a_match_of_a_tenth_is_followed_whatever_the_load(cluster: Cluster) -> None:
    """One block of ten is enough, one of eleven is not."""
    cluster.submit(0, 1)
    for number in range(5):
        cluster.submit(0, 100 + number)
    assert cluster.chosen(1, *range(20, 29)) == (0, Reason.PREFIX)
    assert cluster.chosen(1, *range(20, 30))[1] is Reason.BASELINE


def test_of_several_holders_the_shortest_queue(cluster: Cluster) -> None:
    """Two were sent the prompt, one of them more besides; the third is idle."""
    cluster.submit(0, 1, 2)
    cluster.submit(1, 1, 2)
    cluster.submit(0, 30)
    assert cluster.chosen(1, 2) == (1, Reason.PREFIX)


def test_the_longest_match_wins_over_the_queue(cluster: Cluster) -> None:
    """Although a shorter one would do."""
    cluster.submit(0, 1, 2, 3)
    cluster.submit(0, 30)
    cluster.submit(1, 1)
    assert cluster.chosen(1, 2, 3) == (0, Reason.PREFIX)


def test_an_unknown_prompt_goes_to_who_was_sent_the_least_text(cluster: Cluster) -> None:
    """Not to the shortest queue: six blocks in one request are more than two in two."""
    cluster.submit(0, *range(10, 16))
    cluster.submit(1, 20)
    cluster.submit(1, 30)
    cluster.submit(2, *range(40, 47))
    assert cluster.chosen(99, 98) == (1, Reason.BASELINE)


def test_its_numbers_are_those_of_the_installed_ray() -> None:
    """A new version of Ray may have other defaults; then the peer has to follow."""
    import ray.llm

    folder = Path(ray.llm.__file__).parent / "_internal/serve/routing_policies/prefix_aware"
    source = (folder / "prefix_aware_router.py").read_text()
    assert 'imbalanced_threshold: Optional[float] = float("inf")' in source
    assert "match_rate_threshold: Optional[float] = 0.1," in source
    assert "do_eviction: Optional[bool] = False" in source
