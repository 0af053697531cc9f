"""New prefill tokens times batch size. Prompts are of 16-token blocks and one token; a step holds 100 tokens."""

from tests.loadtests.replay.rivals.builders import Cluster


class TestLMetric:
    """(pending + not cached) x (requests there + 1)."""

    def test_worked_example(self) -> None:
        """The first engine holds four blocks of five, and is asked with ever more requests there; the second is idle.

        For a prompt of 81 tokens of which 64 are held, the second's score is 81 x 1 throughout.
        """
        cluster = Cluster("lmetric", num_replicas=2)
        cluster.submit(0, 1, 2, 3, 4, steps=1)
        cluster.router.on_prefilled(cluster.request_id(0, 1, 2, 3, 4), prompt_tokens=65, cached_tokens=0, now=0)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0  # (0 + 17) x (1 + 1) = 34
        assert cluster.chosen(9)[0] == 1  # (0 + 17) x 2 against 17 x 1
        cluster.submit(0, 60)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 1  # (17 + 17) x (2 + 1) = 102
        cluster.end(0, 60)
        cluster.submit(1, 70)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0  # 34 against (17 + 81) x (1 + 1)

    def test_an_idle_replica_is_not_free(self) -> None:
        """With the batch itself as a factor, an idle one that holds nothing would cost as little as one that does."""
        cluster = Cluster("lmetric", num_replicas=2)
        cluster.submit(0, 1, 2, 3, 4, steps=1)
        cluster.end(0, 1, 2, 3, 4)
        assert {cluster.chosen(1, 2, 3, 4, 5)[0] for _ in range(9)} == {0}  # 17 x 1 against 81 x 1
