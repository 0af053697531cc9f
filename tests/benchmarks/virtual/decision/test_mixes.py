"""A prefix that becomes hot, and giants among other requests, by their laws."""

from collections import Counter
from random import Random

import pytest

from benchmarks.virtual.decision.mixes import (
    GIANT_SHARE,
    GIANT_TOKENS,
    HOT_BLOCKS,
    MIXES,
    NUM_QUESTIONS,
    giants,
    hot_prefix,
    nothing_shared,
)
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash

NUM_USUAL = 2000
TOKENS_PER_S = 10_000.0
PREFIX_TOKENS = HOT_BLOCKS * BLOCK_SIZE_TOKENS
USUAL = [TraceRequest(float(number), 5000, 10, (BlockHash(number),)) for number in range(NUM_USUAL)]


def is_usual(request: TraceRequest) -> bool:
    """Whether the trace has it."""
    return request.num_prompt_tokens == 5000


@pytest.mark.parametrize("name", MIXES)
def test_all_others_stay_as_they_are_in_order(name: str) -> None:
    """Arrivals are in order, and a seed decides everything."""
    mix = MIXES[name]
    mixed = mix(USUAL, TOKENS_PER_S, Random(1))
    arrivals_s = [request.arrival_s for request in mixed]
    assert arrivals_s == sorted(arrivals_s)
    assert len(list(filter(is_usual, mixed))) == NUM_USUAL
    assert mixed == mix(USUAL, TOKENS_PER_S, Random(1))


@pytest.mark.parametrize("name", ["hot prefix", "giants"])
def test_the_traces_blocks_stay(name: str) -> None:
    """In the trace's order."""
    mixed = MIXES[name](USUAL, TOKENS_PER_S, Random(1))
    assert [request.block_hashes[0] for request in filter(is_usual, mixed)] == list(range(NUM_USUAL))
    assert mixed != MIXES[name](USUAL, TOKENS_PER_S, Random(2))


def test_the_load_stays_and_the_share_of_the_prefix_rises_and_falls() -> None:
    """A twentieth, four fifths, a twentieth of the requests; tokens besides the prefix come equally fast."""
    mixed = hot_prefix(USUAL, TOKENS_PER_S, Random(1))
    usual = [position for position, request in enumerate(mixed) if is_usual(request)]
    start, end = usual[NUM_USUAL // 3], usual[2 * NUM_USUAL // 3]
    for part, share in zip((mixed[:start], mixed[start:end], mixed[end:]), (0.05, 0.8, 0.05), strict=True):
        hot = [request for request in part if not is_usual(request)]
        assert len(hot) / len(part) == pytest.approx(share, abs=0.01)
        assert all(0 < request.num_prompt_tokens - PREFIX_TOKENS < BLOCK_SIZE_TOKENS for request in hot)
        tokens = sum(request.num_prompt_tokens for request in part) - len(hot) * PREFIX_TOKENS
        assert tokens / (part[-1].arrival_s - part[0].arrival_s) == pytest.approx(TOKENS_PER_S, rel=0.03)
    hot = [request for request in mixed if not is_usual(request)]
    assert len({request.block_hashes for request in hot}) == 1
    assert len({request.session_id for request in hot}) == len(hot)


def test_giants_are_so_much_of_the_tokens_at_the_same_load() -> None:
    """Up to the questions about the last document."""
    mixed = giants(USUAL, TOKENS_PER_S, Random(1))
    all_tokens = sum(request.num_prompt_tokens for request in mixed)
    wanted_tokens = GIANT_SHARE / (1 - GIANT_SHARE) * 5000 * NUM_USUAL
    giant_tokens = all_tokens - 5000 * NUM_USUAL
    assert wanted_tokens <= giant_tokens < wanted_tokens + NUM_QUESTIONS[-1] * (GIANT_TOKENS[1] + BLOCK_SIZE_TOKENS)
    assert all_tokens / mixed[-1].arrival_s == pytest.approx(TOKENS_PER_S, rel=0.1)


def test_some_documents_are_asked_about_again_and_share_nothing_else() -> None:
    """The same blocks, and a question that fills none."""
    found = [request for request in giants(USUAL, TOKENS_PER_S, Random(1)) if not is_usual(request)]
    num_asked = Counter(giant.block_hashes for giant in found)
    assert set(num_asked.values()) <= set(NUM_QUESTIONS)
    assert max(num_asked.values()) > 1
    assert len({blocks[0] for blocks in num_asked}) == len({giant.session_id for giant in found}) == len(num_asked)
    for giant in found:
        assert 0 < giant.num_prompt_tokens - len(giant.block_hashes) * BLOCK_SIZE_TOKENS < BLOCK_SIZE_TOKENS
        assert GIANT_TOKENS[0] - BLOCK_SIZE_TOKENS < giant.num_prompt_tokens < sum(GIANT_TOKENS)


def test_nothing_shared_keeps_arrivals_and_lengths() -> None:
    """And every block comes once."""
    shared = [TraceRequest(float(number), 5000, 10, (BlockHash(1), BlockHash(2))) for number in range(3)]
    mixed = nothing_shared(shared, TOKENS_PER_S, Random(1))
    assert [(request.arrival_s, len(request.block_hashes)) for request in mixed] == [(0, 2), (1, 2), (2, 2)]
    assert len({block for request in mixed for block in request.block_hashes}) == 6
