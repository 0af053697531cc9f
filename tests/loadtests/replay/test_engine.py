"""The engine's steps, and its memory."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.engine import Engine
from loadtests.replay.trace import TraceRequest
from router import BlockHash, RequestId
from serve_app.messages.receipts import Finished, Prefilled
from tests.loadtests.replay.builders import BLOCK_SIZE, OPTIONS, make_engine, make_trace_request


def test_steps_grow_with_the_contexts_that_are_decoded() -> None:
    """10 ms, 1 ms for the sequence and 10 us for each token before it, of which there is one more each step."""
    engine = Engine(OPTIONS.model_copy(update={"decode_context_s": 0.000_01}), block_size=BLOCK_SIZE)
    engine.submit(RequestId("only"), make_trace_request(1, 2, extra_tokens=8, output_tokens=6))
    engine.start_step()
    engine.finish_step()
    assert engine.start_step() == pytest.approx(0.01 + 0.001 + 0.000_41)
    assert list(engine.durations_s(1 + engine.num_alike_steps)) == pytest.approx(
        [0.011 + 0.000_01 * context for context in range(41, 46)]
    )
    engine.skip_steps(engine.num_alike_steps)
    assert engine.finish_step() == (Finished(RequestId("only"), 6),)
    assert engine.used_tokens == 0


def test_steps_are_chunked_and_last_as_long_as_their_work() -> None:
    """A step costs 10 ms, 1 ms a prefill token, 1 ms a decoding sequence, and holds 100 tokens.

    Prompts of 150 and 160 tokens: the second starts in the budget that the first leaves, and gets one token less
    while the first decodes.
    """
    engine = make_engine(num_blocks=22)
    first, second = RequestId("first"), RequestId("second")
    engine.submit(first, make_trace_request(*range(9), extra_tokens=6, output_tokens=4))
    engine.submit(second, make_trace_request(*range(100, 110), extra_tokens=0, output_tokens=1))
    story = [
        (0.110, ()),  # 100 of the first
        (0.110, (Prefilled(first, 150, 0),)),  # 50 and 50
        (0.110, ()),  # 99, and the first's second token
        (0.022, (Prefilled(second, 160, 0), Finished(second, 1))),  # 11, and the third
        (0.011, (Finished(first, 4),)),
    ]
    for duration_s, outputs in story:
        assert engine.start_step() == pytest.approx(duration_s)
        assert engine.finish_step() == outputs
    assert engine.start_step() is None
    assert engine.num_computed_tokens == 310


def test_no_more_sequences_run_than_allowed() -> None:
    """Three: the fourth prompt waits until a decoding sequence is over, however small it is."""
    engine = make_engine()
    for number in range(4):
        engine.submit(RequestId(str(number)), make_trace_request(number, output_tokens=number + 2))
    num_outputs = []
    while engine.start_step() is not None:
        num_outputs.append(len(engine.finish_step()))
    assert num_outputs == [3, 1, 2, 1, 0, 0, 1]


def test_a_prefix_is_reused_from_the_moment_it_is_scheduled() -> None:
    """Two prompts with a common beginning in one step: the second computes only the rest, and its last token."""
    engine = make_engine()
    engine.submit(RequestId("first"), make_trace_request(1, 2, output_tokens=1))
    engine.submit(RequestId("second"), make_trace_request(1, 2, extra_tokens=0, output_tokens=1))
    assert engine.pending_tokens() == 33 + 32
    assert engine.start_step() == pytest.approx(0.010 + 0.033 + 0.016)
    assert engine.pending_tokens() == 33 + 16
    cached_tokens = [each.cached_tokens for each in engine.finish_step() if isinstance(each, Prefilled)]
    assert cached_tokens == [0, 16]
    assert engine.pending_tokens() == 0


def test_attention_takes_longer_after_a_context() -> None:
    """Of 145 tokens, steps of 100 and 45; then the last one after 144 that are cached. Here a pair takes 10 us."""
    engine = Engine(OPTIONS.model_copy(update={"attention_s": 1e-5}), block_size=BLOCK_SIZE)
    durations_s = []
    for request_id in ("cold", "again"):
        engine.submit(RequestId(request_id), make_trace_request(*range(9), output_tokens=1))
        while (duration_s := engine.start_step()) is not None:
            engine.finish_step()
            durations_s.append(duration_s)
    pairs = (100 * 50, 45 * (100 + 22.5), 1 * (144 + 0.5))
    assert durations_s == [
        pytest.approx(0.010 + tokens / 1000 + attended * 1e-5)
        for tokens, attended in zip((100, 45, 1), pairs, strict=True)
    ]


def test_an_engine_knows_who_waits_and_what_is_in_use() -> None:
    """Prompts of 150 and 33 tokens, steps of 100: the second waits, then both run, then both decode.

    The 32 tokens that they share take room once.
    """
    engine = make_engine()
    engine.submit(RequestId("first"), make_trace_request(*range(9), extra_tokens=6, output_tokens=3))
    engine.submit(RequestId("second"), make_trace_request(1, 2, output_tokens=3))
    seen = []
    for _ in range(3):
        seen.append((engine.num_waiting, engine.used_tokens, engine.active_tokens))
        engine.start_step()
        engine.finish_step()
    assert seen == [(2, 0, 183), (1, 100, 183), (0, 151, 183)]
    while engine.start_step() is not None:
        engine.finish_step()
    assert (engine.num_waiting, engine.used_tokens, engine.active_tokens) == (0, 0, 0)


def test_only_computed_blocks_are_reused() -> None:
    """Of a prompt of ten blocks, the first step computes six and a quarter."""
    engine = make_engine()
    engine.submit(RequestId("long"), make_trace_request(*range(10)))
    engine.start_step()
    assert engine.cache.num_cached(make_trace_request(*range(10)).block_hashes) == 6


def run_alone(engine: Engine, name: str, request: TraceRequest) -> Iterator[Prefilled | Finished]:
    """All outputs of a request while there is no other."""
    engine.submit(RequestId(name), request)
    while engine.start_step() is not None:
        yield from engine.finish_step()


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=20))
def test_cached_tokens_are_what_was_held(paths: list[list[int]]) -> None:
    """One request after the other: exactly what the cache held before, except for the prompt's last token."""
    engine = make_engine()
    for number, path in enumerate(paths):
        blocks = [hash(tuple(path[: depth + 1])) for depth in range(len(path))]
        request = make_trace_request(*blocks, extra_tokens=number % 2, output_tokens=1)
        num_cached = engine.cache.num_cached(request.block_hashes)
        outputs = tuple(run_alone(engine, str(number), request))
        reusable_tokens = min(num_cached * BLOCK_SIZE, (request.num_prompt_tokens - 1) // BLOCK_SIZE * BLOCK_SIZE)
        expected = Prefilled(RequestId(str(number)), request.num_prompt_tokens, reusable_tokens)
        assert outputs == (expected, Finished(RequestId(str(number)), 1))


def run_step(engine: Engine, name: str, *blocks: int) -> tuple[float, int]:
    """A prompt of full blocks and one token, by itself: how long its only step takes, and its cached tokens."""
    engine.submit(RequestId(name), make_trace_request(*blocks, output_tokens=1))
    duration_s = engine.start_step()
    assert duration_s is not None
    prefilled = engine.finish_step()[0]
    assert isinstance(prefilled, Prefilled)
    return duration_s, prefilled.cached_tokens


def test_what_was_evicted_comes_back_from_the_host() -> None:
    """At 16 tokens a millisecond instead of one; what both tiers hold costs nothing.

    The first tier has room for three blocks beside vLLM's own and a partly filled one: after 4-5-6, nothing of 1-2-3 is
    left there, and after it came back, all of it.
    """
    sizes = {"kv_capacity_tokens": 5 * BLOCK_SIZE, "host_capacity_tokens": 960, "host_tokens_per_s": 16_000}
    options = OPTIONS.model_copy(update=sizes)
    engine = Engine(options, block_size=BLOCK_SIZE)
    story = [
        ((1, 2, 3), 0.010 + 0.049, 0),
        ((4, 5, 6), 0.010 + 0.049, 0),
        ((1, 2, 3), 0.010 + 0.001 + 0.003, 48),
        ((1, 2, 3), 0.010 + 0.001, 48),
        ((1, 2, 3, 9), 0.010 + 0.017, 48),
    ]
    for number, (blocks, duration_s, cached_tokens) in enumerate(story):
        assert run_step(engine, str(number), *blocks) == (pytest.approx(duration_s), cached_tokens)


def test_receipts_split_what_was_reused_by_tier() -> None:
    """Of 1-2-3, its last block was evicted first and is loaded; after that, all of it is there."""
    sizes = {"kv_capacity_tokens": 7 * BLOCK_SIZE, "host_capacity_tokens": 960}
    engine = Engine(OPTIONS.model_copy(update=sizes), block_size=BLOCK_SIZE)
    external_tokens = []
    for number, blocks in enumerate([(1, 2, 3), (4, 5, 6), (1, 2, 3), (1, 2, 3)]):
        engine.submit(RequestId(str(number)), make_trace_request(*blocks))
        engine.start_step()
        (prefilled,) = (each for each in engine.finish_step() if isinstance(each, Prefilled))
        assert prefilled.cached_tokens == (48 if number > 1 else 0)
        external_tokens.append(prefilled.external_cached_tokens)
        engine.start_step()
        engine.finish_step()
    assert external_tokens == [0, 0, 16, 0]


def test_a_host_tier_is_limited_too() -> None:
    """Of six blocks: the last used stay."""
    options = OPTIONS.model_copy(update={"kv_capacity_tokens": 3 * BLOCK_SIZE, "host_capacity_tokens": 96})
    engine = Engine(options, block_size=BLOCK_SIZE)
    for first in (1, 4, 7):
        run_step(engine, str(first), first, first + 1, first + 2)
    assert run_step(engine, "old", 1, 2, 3)[1] == 0
    assert run_step(engine, "young", 7, 8, 9)[1] == 48


def test_blocks_of_a_running_request_are_not_evicted() -> None:
    """19 blocks can be used. The first request needs 12 of them while it is decoded, so the others go."""
    engine = make_engine()
    long = make_trace_request(*range(12), extra_tokens=0, output_tokens=10)
    engine.submit(RequestId("long"), long)
    for number in range(3):
        engine.submit(RequestId(str(number)), make_trace_request(*range(100 + 10 * number, 104 + 10 * number)))
        for _ in range(3):
            engine.start_step()
            engine.finish_step()
    assert engine.cache.num_cached(long.block_hashes) == 12
    assert engine.cache.num_cached(make_trace_request(*range(100, 104)).block_hashes) < 4


def test_the_answer_is_reused_with_the_next_prompt() -> None:
    """16 + 10 tokens, and 7 of an answer of which the last is not computed: two blocks, the second ends in it."""
    engine = make_engine()
    first = replace(make_trace_request(1, extra_tokens=10, output_tokens=7), answer_hashes=(BlockHash(2),))
    outputs = [*run_alone(engine, "first", first), *run_alone(engine, "next", make_trace_request(1, 2, 3))]
    assert [each.cached_tokens for each in outputs if isinstance(each, Prefilled)] == [0, 32]
