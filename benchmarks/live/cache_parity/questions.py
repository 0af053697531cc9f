"""What the engine is asked: prompts of token ids, some of which continue what it answered before. Seeded, and pure.

Lengths are the Mooncake conversation trace's, sixteen times shorter, so that its 512-token blocks become the demo's
32-token blocks and its half a million tokens of KV cache a few ten thousand.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from math import log
from random import Random

from loadtests.replay.trace import TraceError, TraceRequest

SCALE = 16
MEDIAN_TOKENS = 7_323 // SCALE
SIGMA = log(28_121 / 7_323) / 1.2816
"""Sigma of a log-normal with the trace's median and ninetieth percentile; 1.2816 is the standard normal's."""
MAX_PROMPT_TOKENS = 8_192
"""Half of the demo's context."""
SYSTEM_TOKENS = 512 // SCALE + 7
"""What all prompts begin with; it ends within a block."""
BLOCK_TOKENS = 32
TOKEN_IDS = range(300, 1_300)
"""Words of every vocabulary; special tokens are elsewhere."""
MAX_ANSWER_TOKENS = 8
RECENT = 40
"""Requests within which conversations go on."""


class Kind(StrEnum):
    """How a prompt relates to those before it."""

    NEW = "new conversation"
    NEXT = "next turn"
    """Prompt and answer of an earlier request, and more."""
    AGAIN = "same prompt again"
    CUT = "changed history"
    """A part of an earlier prompt, and something else."""
    WHOLE = "whole blocks"
    """A part of an earlier prompt that ends where a block ends, and nothing else."""
    TRACE = "from the trace"


KIND_TO_WEIGHT = {Kind.NEW: 9, Kind.NEXT: 6, Kind.AGAIN: 2, Kind.CUT: 2, Kind.WHOLE: 1}


@dataclass(frozen=True, slots=True)
class PromptQuestion:
    """A prompt, and how long its answer shall be."""

    kind: Kind
    prompt: tuple[int, ...]
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A question that an engine answered."""

    question: PromptQuestion
    answer: tuple[int, ...]
    cached_tokens: int
    """Reused tokens as the engine reports them."""


Ask = Callable[[PromptQuestion], Answered]


def conversations(ask: Ask, *, num_requests: int, rng: Random) -> Iterator[Answered]:
    """Ask one after the other; the answers are part of what is asked later."""
    system = _tokens(rng, SYSTEM_TOKENS)
    recent: list[Answered] = []
    for _ in range(num_requests):
        served = ask(_question(rng, system, recent))
        recent = [*recent[-RECENT + 1 :], served]
        yield served


def scaled_down(ask: Ask, trace: Sequence[TraceRequest], *, num_requests: int, rng: Random) -> Iterator[Answered]:
    """Ask a trace's first requests, with a block of tokens for each of its block hashes.

    Raises:
        TraceError: it has fewer requests.

    """
    if len(trace) < num_requests:
        raise TraceError(f"the trace has {len(trace)} requests, not {num_requests}: ask for fewer with --requests")
    for request in trace[:num_requests]:
        blocks = [_tokens(Random(block_hash), BLOCK_TOKENS) for block_hash in request.block_hashes]
        num_tokens = max(1, request.num_prompt_tokens // SCALE)
        prompt = (*chain(*blocks), *_tokens(rng, num_tokens - len(blocks) * BLOCK_TOKENS))
        yield ask(PromptQuestion(Kind.TRACE, prompt[:MAX_PROMPT_TOKENS], rng.randint(1, MAX_ANSWER_TOKENS)))


def _question(rng: Random, system: tuple[int, ...], recent: Sequence[Answered]) -> PromptQuestion:
    kind = rng.choices(list(KIND_TO_WEIGHT), list(KIND_TO_WEIGHT.values()))[0] if recent else Kind.NEW
    prompt = system + _text(rng) if kind is Kind.NEW else _follow_up(kind, rng.choice(recent), rng)
    return PromptQuestion(kind, prompt[:MAX_PROMPT_TOKENS], rng.randint(1, MAX_ANSWER_TOKENS))


def _follow_up(kind: Kind, earlier: Answered, rng: Random) -> tuple[int, ...]:
    prompt = earlier.question.prompt
    match kind:
        case Kind.NEXT:
            return prompt + earlier.answer + _text(rng)
        case Kind.CUT:
            return prompt[: rng.randint(1, len(prompt))] + _text(rng)
        case Kind.WHOLE:
            return prompt[: max(1, rng.randint(1, len(prompt)) // BLOCK_TOKENS) * BLOCK_TOKENS]
        case _:
            return prompt


def _text(rng: Random) -> tuple[int, ...]:
    return _tokens(rng, max(1, round(rng.lognormvariate(log(MEDIAN_TOKENS), SIGMA))))


def _tokens(rng: Random, num_tokens: int) -> tuple[int, ...]:
    return tuple(rng.choices(TOKEN_IDS, k=num_tokens))
