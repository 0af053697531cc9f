"""The five workloads have what they promise, for every seed."""

from statistics import mean, median

import pytest

from loadtests.replay.generators import GENERATORS, generate
from loadtests.replay.generators.texts import BLOCK_SIZE_TOKENS
from loadtests.replay.trace import TraceRequest
from router import RequestId


def num_common(first: TraceRequest, second: TraceRequest) -> int:
    """Leading tokens in blocks that both prompts have."""
    pairs = zip(first.block_hashes, second.block_hashes, strict=False)
    return BLOCK_SIZE_TOKENS * next((index for index, (one, other) in enumerate(pairs) if one != other), 0)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_same_seed_gives_the_same_requests(name: str) -> None:
    """Another one gives others, and every prompt has as many hashes as full blocks."""
    requests = generate(name, seed=1, duration_s=60)
    assert requests == generate(name, seed=1, duration_s=60)
    assert requests != generate(name, seed=2, duration_s=60)
    block_size = GENERATORS[name].block_size
    for each in requests:
        assert len(each.block_hashes) == each.num_prompt_tokens // block_size
        total_tokens = each.num_prompt_tokens + each.num_output_tokens
        assert len(each.block_hashes + each.answer_hashes) == total_tokens // block_size
    assert [each.arrival_s for each in requests] == sorted(each.arrival_s for each in requests)


@pytest.mark.parametrize(
    ("name", "per_s", "median_tokens", "shared_tokens"),
    [("reasoning", 4, 3_000, 1_536), ("tenants", 4, 2_000, 4_096), ("chats", 1.6, 3_000, 1_024)],
)
def test_rates_answers_and_system_prompts(name: str, per_s: float, median_tokens: int, shared_tokens: int) -> None:
    """Over three seeds, within what chance allows: 8 % of the rate, 6 % of the median."""
    seeds = [generate(name, seed=seed) for seed in (1, 2, 3)]
    requests = [request for each in seeds for request in each]
    assert len(requests) / 3 / 240 == pytest.approx(per_s, rel=0.08)
    assert median(each.num_output_tokens for each in requests) == pytest.approx(median_tokens, rel=0.06)
    same = [each for each in seeds[0] if each.tenant == seeds[0][0].tenant and each.predecessor is None]
    assert {num_common(same[0], each) for each in same[1:]} == {shared_tokens}


def test_twice_the_rate_brings_twice_as_many() -> None:
    """In the same time."""
    usual, twice = (generate("reasoning", seed=1, rate=rate) for rate in (1, 2))
    assert len(twice) / len(usual) == pytest.approx(2, rel=0.1)
    assert twice[-1].arrival_s == pytest.approx(240, rel=0.03)


def test_mixed_has_long_answers_and_cold_prompts() -> None:
    """Twice as many cold ones; these share nothing, the others 3,072 tokens."""
    requests = generate("mixed", seed=1)
    cold = [each for each in requests if each.num_prompt_tokens >= 4_800]
    long = [each for each in requests if each.num_prompt_tokens < 4_800]
    assert len(cold) / len(long) == pytest.approx(2, rel=0.15)
    assert mean(each.num_prompt_tokens for each in cold) == pytest.approx(6_000, rel=0.03)
    assert max(num_common(cold[0], each) for each in cold[1:]) == 0
    assert {num_common(long[0], each) for each in long[1:]} == {3_072}
    assert median(each.num_output_tokens for each in long) == pytest.approx(4_000, rel=0.12)


def test_tenants_go_by_zipf() -> None:
    """The largest of eight has 0.45 of the requests, and tenants share no block."""
    requests = [request for seed in (1, 2, 3) for request in generate("tenants", seed=seed)]
    assert mean(each.tenant == "tenant-0" for each in requests) == pytest.approx(0.449, abs=0.03)
    tenant_to_first = {each.tenant: each for each in generate("tenants", seed=1)}
    assert len(tenant_to_first) == 8
    assert len({each.block_hashes[0] for each in tenant_to_first.values()}) == 8


def test_a_chat_goes_on_with_its_answers() -> None:
    """A prompt begins with all full blocks of the one before it and of its answer; gaps are 2 to 12 s."""
    requests = generate("chats", seed=1)
    followers = [each for each in requests if each.predecessor is not None]
    assert len(followers) * 4 == len(requests) * 3
    for each in followers:
        assert each.predecessor is not None
        before = requests[each.predecessor]
        said = before.block_hashes + before.answer_hashes
        assert each.block_hashes[: len(said)] == said
        assert each.session_id == before.session_id
        assert 2 <= each.arrival_s - before.arrival_s <= 12


def test_a_burst_fills_one_memory_with_four_streams() -> None:
    """Eight come within 2.4 s, and a replica of 40,000 tokens holds four to their ends, but not five."""
    requests = generate("burst", seed=1)
    streams = [each for each in requests if each.num_output_tokens == 8_000]
    assert len(streams) == 8
    assert streams[-1].arrival_s <= 2.4
    ends = [each.num_prompt_tokens + 8_000 - 1_536 for each in streams]
    assert 1_536 + sum(ends[:4]) < 40_000 < 1_536 + sum(ends[:5])
    assert all(each.num_output_tokens < 1_000 for each in requests[8:])
    assert [each.max_output_tokens for each in requests] == [each.num_output_tokens for each in requests]


def test_a_share_of_clients_sets_a_round_limit() -> None:
    """30 %, never below the answer; routers see it, and nothing where there is none."""
    requests = generate("reasoning", seed=1)
    limits = [each.max_output_tokens for each in requests]
    assert mean(each is not None for each in limits) == pytest.approx(0.3, abs=0.05)
    assert all(limit is None or limit >= each.num_output_tokens for limit, each in zip(limits, requests, strict=True))
    assert all(limit is None or limit.bit_count() == 1 for limit in limits)
    assert [each.asked(RequestId("a")).max_answer_tokens for each in requests] == limits
