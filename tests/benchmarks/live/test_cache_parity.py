"""The simulator's engine against vLLM's own KV cache manager, and the command that compares it with a real engine."""

from collections.abc import Callable
from random import Random

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.harness.errors import MeasurementError
from benchmarks.live.cache_parity.questions import (
    MAX_PROMPT_TOKENS,
    SCALE,
    SYSTEM_TOKENS,
    Answered,
    Kind,
    PromptQuestion,
    conversations,
    scaled_down,
)
from benchmarks.live.cache_parity.replica import AskedReplica
from benchmarks.live.cache_parity.result import CacheParity, Cause, Pair, lines
from benchmarks.live.cache_parity.simulated import simulated_cached_tokens
from loadtests.replay.trace import TraceError, TraceRequest
from router import BlockHash
from serve_app.messages.response_headers import REPLICA_HEADER
from tests.loadtests.vllm_cache import VllmCache

DEMO_BLOCKS = 640
BLOCK_SIZE = 32
FROM_ONE = {REPLICA_HEADER: "app#LLM#one"}


def random_answers(seed: int) -> Callable[[PromptQuestion], tuple[int, ...]]:
    """As of a model that says the same only if it is asked the same."""

    def answer(question: PromptQuestion) -> tuple[int, ...]:
        rng = Random(hash((seed, question.prompt)))
        return tuple(rng.choices(range(300, 1300), k=question.answer_tokens))

    return answer


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_simulator_reuses_what_vllms_own_cache_manager_does(seed: int) -> None:
    """400 requests of the command, in a cache of the demo's size: equal for every one."""
    cache, answer = VllmCache(num_blocks=DEMO_BLOCKS, block_size=BLOCK_SIZE), random_answers(seed)
    asked = conversations(
        lambda question: cache.ask(question, answer(question)), num_requests=400, rng=Random(f"parity {seed}")
    )
    result = compare(list(asked), kv_capacity_tokens=DEMO_BLOCKS * BLOCK_SIZE)
    assert result.faults() == []
    assert {pair.question.kind for pair in result.pairs} == set(Kind) - {Kind.TRACE}
    assert result.evicted_share > 0.9
    assert 0.2 < result.hit_rate < 0.8


histories = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), min_size=1, max_size=20), st.lists(st.integers(0, 1), min_size=1, max_size=5)
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.usefixtures("vllm")
@settings(max_examples=150)
@given(histories, st.integers(13, 30))
def test_vllms_own_cache_manager_agrees_on_short_prompts_in_little_memory(
    history: list[tuple[list[int], list[int]]], num_blocks: int
) -> None:
    """Blocks of two tokens, of which there are few: the same blocks are computed twice, and evicted, all the time."""
    cache = VllmCache(num_blocks=num_blocks, block_size=2)
    served = [
        cache.ask(PromptQuestion(Kind.NEW, tuple(prompt), len(answer)), tuple(answer)) for prompt, answer in history
    ]
    simulated = simulated_cached_tokens(served, block_size=2, kv_capacity_tokens=2 * num_blocks)
    assert list(simulated) == [each.cached_tokens for each in served]


def test_questions_are_conversations() -> None:
    """All begin alike; next turns contain the answer; nothing is longer than the context takes."""
    served = list(conversations(echo, num_requests=300, rng=Random(1)))
    system = served[0].question.prompt[:SYSTEM_TOKENS]
    assert [each.question.kind for each in served[:1]] == [Kind.NEW]
    earlier = [each.question.prompt + each.answer for each in served]
    for number, each in enumerate(served):
        prompt = each.question.prompt
        assert prompt[: min(len(prompt), 1)] == system[:1]
        assert 1 <= len(prompt) <= MAX_PROMPT_TOKENS
        assert 1 <= each.question.answer_tokens <= 8
        if each.question.kind is Kind.NEXT and len(prompt) < MAX_PROMPT_TOKENS:
            assert any(prompt[: len(history)] == history for history in earlier[:number])


def test_a_trace_is_scaled_down() -> None:
    """Equal blocks stay equal; two full ones of 512 tokens and 40 more become two of 32 and two more."""
    blocks = (BlockHash(1), BlockHash(2))
    trace = [TraceRequest(0, 1064, 9, blocks), TraceRequest(1, 520, 9, blocks[:1]), TraceRequest(2, 5, 9, ())]
    first, second, third = (each.question for each in scaled_down(echo, trace, num_requests=3, rng=Random(1)))
    assert len(first.prompt) == 1064 // SCALE == 66
    assert len(second.prompt) == 32
    assert first.prompt[:32] == second.prompt
    assert len(third.prompt) == 1
    with pytest.raises(TraceError, match="3 requests, not 4"):
        list(scaled_down(echo, trace, num_requests=4, rng=Random(1)))


def echo(question: PromptQuestion) -> Answered:
    """An engine that caches nothing."""
    return Answered(question, (7,) * question.answer_tokens, 0)


def compare(served: list[Answered], *, kv_capacity_tokens: int) -> CacheParity:
    """As the command does."""
    simulated = simulated_cached_tokens(served, block_size=BLOCK_SIZE, kv_capacity_tokens=kv_capacity_tokens)
    pairs = [Pair(each, tokens) for each, tokens in zip(served, simulated, strict=True)]
    return CacheParity(pairs, BLOCK_SIZE, kv_capacity_tokens)


def pair(prompt_tokens: int, *, cached: int, simulated: int) -> Pair:
    """One request with an answer of two tokens."""
    return Pair(Answered(PromptQuestion(Kind.NEW, (1,) * prompt_tokens, 2), (1, 2), cached), simulated)


def test_differences_are_told_by_cause() -> None:
    """Each is counted, and shown with both numbers."""
    pairs = [pair(319, cached=32, simulated=32), pair(64, cached=32, simulated=0), pair(64, cached=0, simulated=32)]
    result = CacheParity(pairs, block_size=32, kv_capacity_tokens=64)
    assert result.num_cached_blocks == (10 - 1) + (2 - 1) + 2  # of the first, its answer's first token fills one
    assert result.evicted_share == pytest.approx(10 / 12)
    assert result.faults() == [f"1 of 3 requests differ: {cause}" for cause in Cause]
    assert [line.partition(":")[0] for line in lines(result)][1:] == [
        "request 1, new conversation, 64 tokens",
        "request 2, new conversation, 64 tokens",
    ]


def test_too_little_eviction_is_a_fault() -> None:
    """Three of four blocks may still be there."""
    result = CacheParity([pair(127, cached=0, simulated=0)], block_size=32, kv_capacity_tokens=96)
    assert [fault.partition(" of the")[0] for fault in result.faults()] == ["only 25%"]


def answering(response: httpx.Response) -> AskedReplica:
    """A replica that always answers so."""
    transport = httpx.MockTransport(lambda _: response)
    return AskedReplica(httpx.Client(base_url="http://replica", transport=transport), model="demo", replica_id="one")


def usage(details: object) -> dict[str, object]:
    """An answer of vLLM's, as far as it is read."""
    return {"choices": [{"token_ids": [5, 6]}], "usage": {"prompt_tokens_details": details}}


def test_a_replicas_answer_is_read() -> None:
    """Its token ids, and what it reused."""
    replica = answering(httpx.Response(200, json=usage({"cached_tokens": 64}), headers=FROM_ONE))
    question = PromptQuestion(Kind.NEW, (1, 2, 3), 2)
    assert replica.ask(question) == Answered(question, (5, 6), 64)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(404, text="no such model"), "404: no such model"),
        (httpx.Response(200, json=usage(None), headers=FROM_ONE), "enable_prompt_tokens_details"),
        (httpx.Response(200, json=usage(None), headers={REPLICA_HEADER: "app#LLM#two"}), "two answered, not one"),
    ],
)
def test_a_replica_that_cannot_be_compared_ends_it(response: httpx.Response, message: str) -> None:
    """In a sentence."""
    with pytest.raises(MeasurementError, match=message):
        answering(response).ask(PromptQuestion(Kind.NEW, (1,), 1))
