"""The better of two candidates. Prompts are of 16-token blocks and one token; a step holds 100 tokens."""

from loadtests.replay.rivals.dualmap import TTFT_SLO_S
from router import Reason
from tests.loadtests.replay.rivals.builders import Cluster

FAR = 2**60
"""Blocks are points of the ring, so these numbers spread over it."""


def candidates(*blocks: int) -> list[int]:
    """The ranks of four idle replicas that may be chosen for a prompt; ties are broken at random."""
    cluster = Cluster("dualmap", num_replicas=4)
    return sorted({cluster.chosen(*blocks)[0] for _ in range(30)})


def test_a_prompt_has_two_candidates_and_others_have_others() -> None:
    """The same two every time, and between them all prompts reach all replicas."""
    pairs = [candidates(block * FAR) for block in range(1, 16)]
    assert {len(pair) for pair in pairs} == {2}
    assert len({tuple(pair) for pair in pairs}) > 3
    assert {rank for pair in pairs for rank in pair} == {0, 1, 2, 3}


def test_of_the_two_the_one_that_holds_more_then_the_less_loaded() -> None:
    """Whatever others hold; and a tie goes to who has less to compute."""
    first, second = candidates(FAR)
    other = next(rank for rank in range(4) if rank not in (first, second))
    cluster = Cluster("dualmap", num_replicas=4)
    cluster.submit(other, FAR, 2, 3, steps=1)
    cluster.submit(first, 50)
    assert cluster.chosen(FAR, 2, 3) == (second, Reason.RING)
    cluster.submit(first, FAR, 2, steps=2)
    assert cluster.chosen(FAR, 2, 3) == (first, Reason.PREFIX)


def test_load_decides_where_the_first_token_would_come_after_the_slo() -> None:
    """The holder prefills 1,000 tokens a second, and gets ever more to do: 17 tokens a prompt."""
    first, second = candidates(FAR)
    cluster = Cluster("dualmap", num_replicas=4)
    cluster.submit(first, FAR, 2, steps=1)
    cluster.router.on_prefilled(cluster.request_id(first, FAR, 2), prompt_tokens=33, cached_tokens=0, now=0)
    num_within = int((TTFT_SLO_S * 1_000 - 17) // 17)
    for number in range(num_within):
        cluster.submit(first, 100 + number)
    assert cluster.chosen(FAR, 2, 3) == (first, Reason.PREFIX)
    cluster.submit(first, 99)
    assert cluster.chosen(FAR, 2, 3) == (second, Reason.SPILL)


def test_a_single_replica_is_both_candidates() -> None:
    """And a prompt without a block has a place too, which is not by its beginning."""
    cluster = Cluster("dualmap", num_replicas=1)
    assert cluster.chosen(1) == (0, Reason.RING)
    assert cluster.chosen() == (0, Reason.NO_KEY)


def test_what_all_begin_with_does_not_send_all_to_the_same_two() -> None:
    """A system prompt is in common, and conversations spread by what follows it, over all that are idle."""
    cluster = Cluster("dualmap", num_replicas=4)
    for conversation in range(5):
        cluster.submit(0, 1, 100 + conversation)
    assert {cluster.chosen(1, block * FAR)[0] for block in range(1, 16)} == {1, 2, 3}
