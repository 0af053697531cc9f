"""Giants among other requests, by their laws."""

from collections import Counter
from random import Random

import pytest

from benchmarks.virtual.scenarios.giant_traffic import DOCUMENT_TOKENS, NUM_QUESTIONS, GiantTraffic, add_giants
from benchmarks.virtual.scenarios.giants import behind
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash
from tests.benchmarks.virtual.scenarios.records import make_record

NUM_ORDINARY = 2000
TOKENS_PER_S = 10_000.0


def make_traffic(*, giant_share: float = 0.2, seed: int = 1) -> GiantTraffic:
    """Among prompts of 10,000 tokens."""
    ordinary = [TraceRequest(float(number), 10_000, 10, (BlockHash(number),)) for number in range(NUM_ORDINARY)]
    return add_giants(ordinary, tokens_per_s=TOKENS_PER_S, giant_share=giant_share, rng=Random(seed))


def giants_of(traffic: GiantTraffic) -> list[TraceRequest]:
    """Those that are."""
    return [each for each in traffic.requests if each.arrival_s in traffic.giant_arrivals_s]


@pytest.mark.parametrize("giant_share", [0.1, 0.2])
def test_giants_are_so_much_of_the_tokens_at_the_same_load(giant_share: float) -> None:
    """Up to the questions about the last document."""
    traffic = make_traffic(giant_share=giant_share)
    all_tokens = sum(each.num_prompt_tokens for each in traffic.requests)
    giant_tokens = sum(each.num_prompt_tokens for each in giants_of(traffic))
    wanted_tokens = giant_share / (1 - giant_share) * (all_tokens - giant_tokens)
    assert wanted_tokens <= giant_tokens < wanted_tokens + NUM_QUESTIONS[-1] * (DOCUMENT_TOKENS[1] + BLOCK_SIZE_TOKENS)
    assert all_tokens / traffic.ordinary[-1].arrival_s == pytest.approx(TOKENS_PER_S, rel=0.05)


def test_some_documents_are_asked_about_again_and_share_nothing_else() -> None:
    """The same blocks, and a question that fills none."""
    giants = giants_of(make_traffic())
    num_asked = Counter(each.block_hashes for each in giants)
    assert set(num_asked.values()) == set(NUM_QUESTIONS)
    assert len({blocks[0] for blocks in num_asked}) == len({each.session_id for each in giants}) == len(num_asked)
    for giant in giants:
        assert 0 < giant.num_prompt_tokens - len(giant.block_hashes) * BLOCK_SIZE_TOKENS < BLOCK_SIZE_TOKENS
        assert DOCUMENT_TOKENS[0] - BLOCK_SIZE_TOKENS < giant.num_prompt_tokens < sum(DOCUMENT_TOKENS)


def test_all_others_stay_as_they_are_in_order() -> None:
    """They come at an even pace, with giants and without."""
    traffic = make_traffic()
    assert [each.block_hashes[0] for each in traffic.ordinary] == list(range(NUM_ORDINARY))
    arrivals_s = [each.arrival_s for each in traffic.requests]
    assert arrivals_s == sorted(arrivals_s)
    assert len(traffic.requests) == NUM_ORDINARY + len(traffic.giant_arrivals_s)


def test_a_seed_decides_everything() -> None:
    """And another seed something else."""
    assert make_traffic() == make_traffic()
    assert make_traffic() != make_traffic(seed=2)


def test_behind_a_giant_is_who_comes_to_its_replica_before_its_first_token() -> None:
    """Which comes half a second after it did."""
    giant = make_record(1.0, 0)
    others = [make_record(0.9, 0), make_record(1.2, 0), make_record(1.3, 1), make_record(1.6, 0)]
    assert behind(others, [giant]) == [others[1]]
