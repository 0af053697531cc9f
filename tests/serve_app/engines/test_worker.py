"""A simulated engine under vLLM's own front end, scheduler and cache, without Serve around it.

`make test` runs it in a process of its own, because vLLM leaves some of itself behind in one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.serve_app.simulated_engines import BLOCK_SIZE, ask, running_engine

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]

PROMPT = list(range(500, 900))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Any]:
    """Started once."""
    with running_engine() as engine:
        yield engine


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _empty_cache(engine: Any) -> None:
    assert await engine.reset_prefix_cache()


async def test_it_reuses_whole_blocks_but_never_the_last_token(engine: Any) -> None:
    """As vLLM does; a prompt that ends with a block has that block computed again."""
    first = await ask(engine, "first", PROMPT)
    again = await ask(engine, "again", PROMPT)
    longer = await ask(engine, "longer", [*PROMPT, *range(900, 1000)])
    other = await ask(engine, "other", [7, *PROMPT])
    assert [each.num_cached_tokens for each in (first, again, longer, other)] == [0, 384, 400, 0]


async def test_answers_have_their_length_and_are_cached_too(engine: Any) -> None:
    """So the next turn of a conversation finds them."""
    answer = await ask(engine, "turn 1", PROMPT, max_tokens=40)
    token_ids = answer.outputs[0].token_ids
    assert len(token_ids) == 40
    next_turn = await ask(engine, "turn 2", [*PROMPT, *token_ids, *range(100)])
    assert next_turn.num_cached_tokens == (400 + 39) // BLOCK_SIZE * BLOCK_SIZE


async def test_a_prompt_has_log_probabilities_where_they_are_wanted(engine: Any) -> None:
    """Of each token but the first, with alternatives; also where the prompt is computed in several steps."""
    for prompt in (PROMPT, [7]):
        answer = await ask(engine, f"likely {len(prompt)}", prompt, prompt_logprobs=2)
        first, *others = answer.prompt_logprobs
        assert first is None
        assert [token_id in each and len(each) >= 2 for token_id, each in zip(prompt[1:], others, strict=True)] == [
            True
        ] * (len(prompt) - 1)


def test_where_a_grammar_allows_nothing_the_first_token_is_sampled() -> None:
    """As a real sampler does, rather than that the engine dies of a client's grammar."""
    from serve_app.engines.vllm_worker import _first_bit

    assert [_first_bit(words) for words in ([0, 0], [0, 4], [-(2**31), 0])] == [0, 34, 31]


async def test_more_than_the_cache_holds_is_preempted_and_still_answered(engine: Any) -> None:
    """Six prompts of 400 tokens with answers of 100 do not fit at a time."""
    prompts = [[number, *PROMPT[1:]] for number in range(6)]
    answers = await asyncio.gather(
        *(ask(engine, f"many {number}", prompt, max_tokens=100) for number, prompt in enumerate(prompts))
    )
    assert [len(each.outputs[0].token_ids) for each in answers] == [100] * 6


async def test_an_aborted_request_leaves_the_engine_as_it_was(engine: Any) -> None:
    """Its client goes after the first token."""
    from vllm import SamplingParams

    stream = engine.generate({"prompt_token_ids": PROMPT}, SamplingParams(max_tokens=600, ignore_eos=True), "gone")
    async with contextlib.aclosing(stream):
        await anext(stream)
        assert engine.output_processor.has_unfinished_requests()
    assert not engine.output_processor.has_unfinished_requests()
    assert len((await ask(engine, "next", PROMPT)).outputs[0].token_ids) == 4


async def test_log_probabilities_are_those_of_equally_likely_tokens(engine: Any) -> None:
    """One for the sampled token, and as many as were asked for in addition."""
    alone, with_others = await asyncio.gather(
        ask(engine, "with", PROMPT, logprobs=2), ask(engine, "without", PROMPT, logprobs=None)
    )
    assert with_others.outputs[0].logprobs is None
    for token_id, of_token in zip(alone.outputs[0].token_ids, alone.outputs[0].logprobs, strict=True):
        assert token_id in of_token
        assert len({each.logprob for each in of_token.values()}) == 1


async def test_a_grammar_is_obeyed(engine: Any) -> None:
    """The answer is one of two words, as constrained decoding wants."""
    from vllm.sampling_params import StructuredOutputsParams

    wanted = StructuredOutputsParams(choice=["yes", "no"])
    answer = await ask(engine, "choice", PROMPT, structured_outputs=wanted, ignore_eos=False, max_tokens=20)
    assert answer.outputs[0].text in {"yes", "no"}
