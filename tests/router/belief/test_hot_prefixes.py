"""The prefixes that most recent work has in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import HotPrefix, Router
from tests.builders import BLOCK_SIZE, make_request, make_router

prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=25)


def serve(router: Router, *prompts: list[int]) -> None:
    """Each from its decision to its end."""
    for number, blocks in enumerate(prompts):
        request = make_request(f"{number}", *blocks)
        cached_tokens = router.choose(request, now=0).decision.believed_cached_tokens
        router.on_prefilled(
            request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=cached_tokens, now=0
        )
        router.on_finished(request.request_id, now=0)


def test_the_hottest_come_first() -> None:
    """Three prompts part after two blocks, two after one; a conversation's turns part nowhere."""
    router = make_router(num_replicas=2)
    serve(router, [1, 2, 3], [1, 2, 4], [1, 2, 5], [7, 8], [7, 9], [11, 12], [11, 12, 13])
    first, second = router.hot_prefixes(10)
    assert (first.num_blocks, second.num_blocks) == (2, 1)
    assert first.block_hash == make_request("x", 1, 2).block_hashes[-1]
    assert 0 < second.work_share < first.work_share <= 1
    assert set(first.replica_ids) <= {each.replica_id for each in router.cluster.replicas}
    assert router.hot_prefixes(1) == [first]


def test_prompts_that_end_alike_share_what_they_are() -> None:
    """One system prompt, and questions too short to fill a block."""
    router = make_router(num_replicas=1)
    serve(router, *([[1, 2]] * 4))
    (prefix,) = router.hot_prefixes(10)
    assert (prefix.num_blocks, prefix.work_share) == (2, 1.0)


def test_there_are_none_before_the_first_prompts() -> None:
    """Without a shared prefix there is none, either."""
    router = make_router(num_replicas=1)
    assert router.hot_prefixes(10) == []
    serve(router, [1], [2])
    assert router.hot_prefixes(10) == []


def every_hot_prefix(router: Router) -> list[HotPrefix]:
    """All there are."""
    return router.hot_prefixes(1000)


@given(prompts, st.integers(1, 4))
def test_a_limit_leaves_out_the_coldest(prompts: list[list[int]], limit: int) -> None:
    """Work shares never grow down the list, and each prefix is there once."""
    router = make_router(num_replicas=2, kv_capacity_tokens=12 * BLOCK_SIZE)
    serve(router, *prompts)
    found = every_hot_prefix(router)
    shares = [each.work_share for each in found]
    assert shares == sorted(shares, reverse=True)
    assert len({each.block_hash for each in found}) == len(found)
    assert [each.work_share for each in router.hot_prefixes(limit)] == shares[:limit]


def test_the_first_and_the_last_are_found_among_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else is shared, so that a look at all of them would keep decisions waiting."""
    monkeypatch.setattr("router.belief.hot_prefixes.MAX_SIBLINGS", 8)
    router = make_router(num_replicas=1, kv_capacity_tokens=1000 * BLOCK_SIZE)
    alone = [[100 + number, 1] for number in range(50)]
    serve(router, [1, 2], [1, 3], [1, 4], *alone, [5, 2], [5, 3])
    first, second = (make_request("x", each).block_hashes[-1] for each in (1, 5))
    assert [each.block_hash for each in router.hot_prefixes(10)] == [first, second]
