"""What an engine does when its memory is short. A contract test runs it beside vLLM's scheduler."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.engine import Engine
from loadtests.replay.trace import TraceRequest
from router import EngineLoad, RequestId
from serve_app.messages.receipts import Finished, Prefilled
from tests.loadtests.replay.builders import BLOCK_SIZE, make_engine, make_trace_request


def submit(engine: Engine, *requests: TraceRequest) -> None:
    """Queue them as 0, 1, 2 and so on."""
    for number, request in enumerate(requests):
        engine.submit(RequestId(str(number)), request)


def run_step(engine: Engine) -> str:
    """The requests that have their first token, and, with an exclamation mark, those that are over."""
    assert engine.start_step() is not None
    return " ".join(each.request_id + "!" * isinstance(each, Finished) for each in engine.finish_step())


def test_a_prompt_waits_until_all_of_it_fits_and_those_after_it_wait_too() -> None:
    """19 blocks can be used. The first of three prompts has six; the second needs 14, so the small third waits as well.

    When the first is over its blocks are evictable, and that is room enough; a step computes 100 tokens.
    """
    engine = make_engine()
    submit(
        engine,
        make_trace_request(*range(6), extra_tokens=0, output_tokens=4),
        make_trace_request(*range(100, 114), extra_tokens=0, output_tokens=1),
        make_trace_request(200, output_tokens=1),
    )
    seen = [(run_step(engine), engine.num_waiting) for _ in range(7)]
    assert seen == [("0", 2), ("", 2), ("", 2), ("0!", 2), ("", 1), ("", 1), ("1 2 1! 2!", 0)]
    assert engine.start_step() is None


@pytest.mark.parametrize(("num_shared", "num_waiting"), [(6, 0), (5, 1)])
def test_what_is_in_use_already_takes_no_room(num_shared: int, num_waiting: int) -> None:
    """Of 19 blocks, six and a token are in use: a prompt of 18 fits if it shares all six."""
    engine = make_engine()
    engine.submit(RequestId("first"), make_trace_request(*range(6), extra_tokens=0, output_tokens=30))
    run_step(engine)
    run_step(engine)
    blocks = (*range(num_shared), *range(100, 118 - num_shared))
    engine.submit(RequestId("second"), make_trace_request(*blocks, extra_tokens=0))
    run_step(engine)
    assert engine.num_waiting == num_waiting


def test_what_was_admitted_last_is_preempted_and_later_goes_on_where_it_was() -> None:
    """Two prompts of 48 tokens and their answers in eight blocks, 128 tokens: 16 more each, so the 17th step after
    the first has no room. The first goes on alone. The second has 17 tokens of its answer then, and three left: when
    the first is over, it finds its three blocks, computes those 17, and has no second first token.
    """
    engine = make_engine(num_blocks=9)
    submit(engine, *(make_trace_request(*range(at, at + 3), extra_tokens=0, output_tokens=20) for at in (0, 100)))
    assert run_step(engine) == "0 1"
    assert [run_step(engine) for _ in range(16)] == [""] * 16
    assert engine.load() == EngineLoad(0, 2, 128, num_preempted=0)
    assert [run_step(engine) for _ in range(2)] == ["", ""]
    assert (engine.load(), engine.pending_tokens()) == (EngineLoad(1, 1, 66, num_preempted=1), 17)
    assert run_step(engine) == "0!"
    assert engine.start_step() == pytest.approx(0.010 + 0.017)
    engine.finish_step()
    assert [run_step(engine) for _ in range(2)] == ["", "1!"]
    assert engine.start_step() is None
    assert (engine.used_tokens, engine.num_computed_tokens) == (0, 48 + 48 + 17)


def test_a_prompt_in_chunks_can_be_preempted_too() -> None:
    """In 14 blocks, 224 tokens, the first has 16 when the second, of 207, starts, with 84 and 99 of them. For the last
    24 and another token of the first there is no room, so it waits for the end of the first, and then computes what was
    not held: 11 blocks were, which count as computed when the router is told.
    """
    engine = make_engine(num_blocks=15)
    first = make_trace_request(1, extra_tokens=0, output_tokens=16)
    submit(engine, first, make_trace_request(*range(100, 112), extra_tokens=15, output_tokens=1))
    assert [(run_step(engine), engine.num_waiting) for _ in range(3)] == [("0", 0), ("", 0), ("", 1)]
    assert [run_step(engine) for _ in range(13)] == [""] * 12 + ["0!"]
    assert engine.start_step() == pytest.approx(0.010 + 0.207 - 11 * 0.016)
    assert engine.finish_step() == (Prefilled(RequestId("1"), 207, 0), Finished(RequestId("1"), 1))


def test_what_is_larger_than_the_cache_runs_alone() -> None:
    """The second of three, in 19 blocks: neither does it run beside the first, nor the third beside it."""
    engine = make_engine()
    submit(
        engine,
        make_trace_request(1, output_tokens=2),
        make_trace_request(*range(100, 130), output_tokens=40),
        make_trace_request(2, output_tokens=2),
    )
    seen = []
    while engine.start_step() is not None:
        seen += [(each.request_id, type(each)) for each in engine.finish_step()]
    assert seen == [(number, kind) for number in "012" for kind in (Prefilled, Finished)]
    assert engine.used_tokens == 0


requests = st.builds(
    lambda path, extra_tokens, output_tokens: make_trace_request(
        *(hash(tuple(path[: depth + 1])) for depth in range(len(path))),
        extra_tokens=extra_tokens,
        output_tokens=output_tokens,
    ),
    st.lists(st.integers(0, 1), max_size=12),
    st.integers(1, BLOCK_SIZE - 1),
    st.integers(1, 60),
)


@given(st.lists(requests, min_size=1, max_size=12), st.integers(4, 20))
def test_all_are_served_in_order_and_all_memory_comes_back(asked: list[TraceRequest], num_blocks: int) -> None:
    """First tokens come in the order of arrival, one a request, and there is room for all that run, or one runs."""
    engine = make_engine(num_blocks=num_blocks)
    submit(engine, *asked)
    outputs = []
    while engine.start_step() is not None:
        num_running = len(asked) - engine.num_waiting - sum(isinstance(each, Finished) for each in outputs)
        assert num_running == 1 or engine.used_tokens <= (num_blocks - 1) * BLOCK_SIZE
        outputs += engine.finish_step()
    numbers = [RequestId(str(number)) for number in range(len(asked))]
    assert [each.request_id for each in outputs if isinstance(each, Prefilled)] == numbers
    assert {each.request_id for each in outputs if isinstance(each, Finished)} == set(numbers)
    assert len(outputs) == 2 * len(asked)
    assert engine.used_tokens == engine.num_waiting == engine.active_tokens == 0


@given(st.lists(requests, min_size=1, max_size=12), st.integers(4, 20))
def test_steps_alike_can_be_skipped(asked: list[TraceRequest], num_blocks: int) -> None:
    """Whether each is looked at or not, everything comes after as many steps, whoever waits or is preempted; and what
    the engine says of itself within steps that nobody looked at is what it says step by step.
    """
    looking, skipping = (make_engine(num_blocks=num_blocks) for _ in range(2))
    submit(looking, *asked)
    submit(skipping, *asked)
    while (duration_s := skipping.start_step()) is not None:
        num_alike = skipping.num_alike_steps
        loads = [skipping.load(num_further_steps=number) for number in range(num_alike)]
        skipping.skip_steps(num_alike)
        for load in loads:
            assert looking.start_step() == duration_s
            assert looking.load() == load
            assert looking.finish_step() == ()
        assert looking.start_step() == duration_s
        assert looking.finish_step() == skipping.finish_step()
        assert looking.load() == skipping.load()
    assert looking.start_step() is None
