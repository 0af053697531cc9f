"""Policies that only simulations run. Prompts are of 16-token blocks and one token; a step holds 100 tokens."""

from router import Reason
from tests.loadtests.replay.rivals.builders import Cluster


class TestGreedyOracle:
    """True pending tokens + tokens truly not cached."""

    def test_waiting_is_weighed_against_what_is_cached(self) -> None:
        """The first engine holds four blocks of five, so that 17 of 81 tokens are left there.

        What is pending may then cost up to 64 tokens; 65 are too many.
        """
        cluster = Cluster("greedy_oracle", num_replicas=2)
        cluster.submit(0, 1, 2, 3, 4, steps=1)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0
        cluster.submit(0, 50, 51, 52)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0  # 49 + 17 < 81
        cluster.submit(0, 60)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 1  # 66 + 17 > 81
        assert cluster.chosen(9)[0] == 1

    def test_what_the_router_believes_is_of_no_interest(self) -> None:
        """A prompt was sent to the first engine, which has not computed it: it is pending and not cached."""
        cluster = Cluster("greedy_oracle", num_replicas=2)
        cluster.submit(0, 1, 2, 3, 4)
        assert cluster.chosen(1, 2, 3, 4)[0] == 1


class TestDynamoRule:
    """Pending prefill + not cached + the prompts of all active requests."""

    def test_a_prefix_is_left_for_a_decoding_request_as_large(self) -> None:
        """The first engine holds the prefix, but the request that brought it still decodes."""
        cluster = Cluster("dynamo_rule", num_replicas=2)
        cluster.submit(0, 1, 2, 3, 4, steps=1)
        cluster.end(0, 1, 2, 3, 4)
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 1  # 0 + 17 + 65 > 0 + 81 + 0
        for _ in range(99):
            cluster.engines[0].start_step()
            cluster.engines[0].finish_step()
        assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0  # 0 + 17 + 0


class TestLlmdScraped:
    """The engines' queues, without what is being prefilled, and the share of the KV cache in use."""

    def test_a_prompt_that_is_being_prefilled_does_not_wait(self) -> None:
        """The holder of the prefix has a prompt in its second step, then one more behind it."""
        cluster = Cluster("llmd_scraped", num_replicas=2)
        cluster.chosen(1)
        cluster.submit(0, 1, 2, 3, 4, steps=1)
        cluster.submit(0, *range(50, 60), steps=1)
        assert cluster.chosen(1, 2, 3, 4, 5) == (0, Reason.PREFIX)  # 3 * 0.8 + 2 + 2 * (1 - 165 / 320) > 2 + 2
        cluster.submit(0, 70)
        assert cluster.chosen(1, 2, 3, 4, 5) == (1, Reason.SPILL)  # two points less


class TestPureAffinity:
    """The longest match, whatever the load."""

    def test_load_never_counts(self) -> None:
        """The holder is crowded, and stays the choice for all that goes on from what it holds."""
        cluster = Cluster("pure_affinity", num_replicas=2)
        for rank in (0, 1):
            held = 10 * (rank + 1)
            cluster.submit(rank, held, held + 1)
            for block in range(100, 110):
                cluster.submit(rank, block + 100 * rank)
            assert cluster.chosen(held, held + 1, 99) == (rank, Reason.PREFIX)

    def test_what_many_prompts_share_draws_nobody(self) -> None:
        """One replica holds a system prompt, and new conversations spread over both all the same."""
        cluster = Cluster("pure_affinity", num_replicas=2)
        for conversation in range(5):
            cluster.submit(0, 1, 100 + conversation)
        chosen = {cluster.chosen(1, block * 2**60) for block in range(1, 16)}
        assert chosen == {(0, Reason.RING), (1, Reason.RING)}
