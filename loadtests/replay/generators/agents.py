"""Coding agents: long loops of short answers and tool results, behind instructions and tools that all of them share.

Shaped after Codex on SWE-bench Pro (610 sessions: 33 turns in the median, 131 prompt tokens to an answer's one, 94 % of
prompt tokens seen before, 80,000 tokens by turn 30), with the gaps of TraceLab's rounds (Claude Code and Codex, SyFI
Lab, University of Washington, CC BY 4.0): most tools take a moment, some take many seconds, and now and then a human
answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from loadtests.replay.generators.texts import Draft, Text, lognormal_tokens, poisson_times, round_limit

BLOCK_SIZE_TOKENS = 64
"""Contexts are long, and a replay costs time by the block."""
SESSIONS_PER_S = 0.25
SYSTEM_TOKENS = 8_192
"""Instructions and tools."""
MEDIAN_TASK_TOKENS = 1_500
MEDIAN_TURNS = 34
TURNS_SIGMA = 0.42
MAX_TURNS = 100
MAX_CONTEXT_TOKENS = 120_000
"""Where a session ends, if it has not before."""
MEDIAN_ANSWER_TOKENS = 245
ANSWER_SIGMA = 0.9
MEDIAN_RESULT_TOKENS = 1_150
"""Median length of a tool's result."""
RESULT_SIGMA = 1.05
MAX_RESULT_TOKENS = 16_384
"""Where agents cut it off."""
MEDIAN_GAP_S = 0.5
GAP_SIGMA = 2.0
MAX_GAP_S = 120.0
HUMAN_SHARE = 0.04
"""Share of the turns that wait for a human."""
SUBAGENT_SHARE = 0.025
"""Share of the turns that send out subagents."""
FORK_SHARE = 0.3
"""Share of the subagents that continue their parent's text; the others begin with a task of their own."""
MEDIAN_SUBAGENT_TURNS = 8
LIMITED_SHARE = 0.3


@dataclass(slots=True)
class _Loop:
    """An agent under way."""

    session_id: str
    text: Text
    """Up to its last answer."""
    next_s: float
    """The time of its next turn, if all answers came at once."""
    turn: Draft | None
    """The turn that it waits for."""


def agents(rng: Random, *, rate: float, duration_s: float) -> Iterator[Draft]:
    """0.25 sessions a second, closed loop."""
    system = Text(block_size=BLOCK_SIZE_TOKENS).extended(SYSTEM_TOKENS, rng)
    for number, start_s in enumerate(poisson_times(rng, per_s=SESSIONS_PER_S * rate, duration_s=duration_s)):
        loop = _Loop(f"agent-{number}", system, start_s, None)
        yield from _session(rng, system, loop)


def _session(rng: Random, system: Text, loop: _Loop) -> Iterator[Draft]:
    """All turns of a session, and of its subagents, whom it waits for."""
    num_subagents = 0
    for number in range(_num_turns(rng, MEDIAN_TURNS)):
        if loop.text.num_tokens > MAX_CONTEXT_TOKENS:
            return
        yield _take_turn(rng, loop, is_first=number == 0)
        if rng.random() < SUBAGENT_SHARE:
            subagents = [_subagent(rng, system, loop, num_subagents + each) for each in range(rng.randint(1, 3))]
            num_subagents += len(subagents)
            for subagent in subagents:
                for _ in range(_num_turns(rng, MEDIAN_SUBAGENT_TURNS)):
                    yield _take_turn(rng, subagent, is_first=subagent.turn is loop.turn)
            last = max(subagents, key=lambda each: each.next_s)
            loop.turn, loop.next_s = last.turn, last.next_s


def _subagent(rng: Random, system: Text, parent: _Loop, number: int) -> _Loop:
    text = parent.text if rng.random() < FORK_SHARE else system
    return _Loop(f"{parent.session_id} subagent-{number}", text, parent.next_s, parent.turn)


def _take_turn(rng: Random, loop: _Loop, *, is_first: bool) -> Draft:
    """The next request of a loop: what was said so far, and a task or a tool's result."""
    median_tokens = MEDIAN_TASK_TOKENS if is_first else MEDIAN_RESULT_TOKENS
    new_tokens = lognormal_tokens(rng, median_tokens=median_tokens, sigma=RESULT_SIGMA)
    prompt = loop.text.extended(min(new_tokens, MAX_RESULT_TOKENS), rng)
    num_output_tokens = lognormal_tokens(rng, median_tokens=MEDIAN_ANSWER_TOKENS, sigma=ANSWER_SIGMA)
    loop.text = prompt.extended(num_output_tokens, rng)
    limit_tokens = round_limit(num_output_tokens, rng, share=LIMITED_SHARE)
    loop.turn = Draft(loop.next_s, prompt, loop.text, limit_tokens, session_id=loop.session_id, predecessor=loop.turn)
    loop.next_s += _gap_s(rng)
    return loop.turn


def _gap_s(rng: Random) -> float:
    """Between an answer and the next turn; somewhat more than none, so that turns have an order."""
    if rng.random() < HUMAN_SHARE:
        return rng.uniform(10, 60)
    return min(MAX_GAP_S, 0.01 + MEDIAN_GAP_S * rng.lognormvariate(0, GAP_SIGMA))


def _num_turns(rng: Random, median_turns: int) -> int:
    return min(MAX_TURNS, lognormal_tokens(rng, median_tokens=median_turns, sigma=TURNS_SIGMA))
