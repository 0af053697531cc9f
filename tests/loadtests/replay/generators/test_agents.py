"""Agents look like those that were recorded."""

import json
from collections import defaultdict
from functools import cache
from itertools import takewhile
from math import log
from pathlib import Path
from statistics import mean, median, stdev

import pytest

from loadtests.replay.bounds import infinite_hit_rate
from loadtests.replay.generators import GENERATORS, agents, generate
from loadtests.replay.trace import TraceRequest

TRACELAB = Path(__file__).parents[4] / "../shared/data/traces/tracelab_example_rounds.jsonl"
SEEDS = (1, 2, 3)


@cache
def made(seed: int) -> tuple[TraceRequest, ...]:
    """The requests of a seed."""
    return generate("agents", seed=seed)


def sessions() -> dict[tuple[int, str], list[TraceRequest]]:
    """Turns by seed and session, those of subagents apart."""
    session_to_turns = defaultdict(list)
    for seed in SEEDS:
        for request in made(seed):
            session_to_turns[seed, request.session_id].append(request)
    return session_to_turns


def test_turns_tokens_and_growth_are_those_of_codex_on_swe_bench_pro() -> None:
    """33 turns in the median, 131 prompt tokens to one of an answer, 80,000 tokens by turn 30."""
    loops = [turns for (_, session_id), turns in sessions().items() if "subagent" not in session_id]
    assert median(map(len, loops)) == pytest.approx(33, abs=2)
    assert median(turns[29].num_prompt_tokens for turns in loops if len(turns) >= 30) == pytest.approx(80_000, rel=0.1)
    requests = [request for seed in SEEDS for request in made(seed)]
    answer_tokens = sum(each.num_output_tokens for each in requests)
    assert sum(each.num_prompt_tokens for each in requests) / answer_tokens == pytest.approx(131, rel=0.08)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_infinite_cache_hits_almost_all(seed: int) -> None:
    """94.2 % there."""
    assert infinite_hit_rate(made(seed), block_size=agents.BLOCK_SIZE_TOKENS) == pytest.approx(0.942, abs=0.015)


def test_every_turn_goes_on_with_what_was_said_or_begins_behind_the_same_instructions() -> None:
    """Also those of subagents; who waits for them goes on from its own turn before, not from theirs."""
    requests = made(1)
    session_to_last: dict[str, TraceRequest] = {}
    num_system_blocks = agents.SYSTEM_TOKENS // agents.BLOCK_SIZE_TOKENS
    system = requests[0].block_hashes[:num_system_blocks]
    for each in requests:
        assert each.block_hashes[:num_system_blocks] == system
        before = session_to_last.get(each.session_id)
        if before is not None:
            said = before.block_hashes + before.answer_hashes
            assert each.block_hashes[: len(said)] == said
        session_to_last[each.session_id] = each


def test_subagents_branch_from_their_parents() -> None:
    """They come after the turn that sent them out, some with all of its context, and their parent waits for one."""
    requests = made(1)
    firsts = [turns[0] for (seed, session_id), turns in sessions().items() if seed == 1 and "subagent" in session_id]
    num_forked = 0
    for first in firsts:
        assert first.predecessor is not None
        parent = requests[first.predecessor]
        num_same = sum(
            1
            for _ in takewhile(
                lambda pair: pair[0] == pair[1], zip(parent.block_hashes, first.block_hashes, strict=False)
            )
        )
        num_forked += num_same == len(parent.block_hashes)
    assert 0.1 < num_forked / len(firsts) < 0.5
    waiting = [each for each in requests if each.predecessor is not None and "subagent" not in each.session_id]
    assert any("subagent" in requests[each.predecessor or 0].session_id for each in waiting)


def test_predecessors_come_before() -> None:
    """By time and in the list; only sessions begin without one, 0.25 a second."""
    requests = made(1)
    assert GENERATORS["agents"].is_closed_loop
    for position, each in enumerate(requests):
        if each.predecessor is not None:
            assert each.predecessor < position
            assert requests[each.predecessor].arrival_s < each.arrival_s
    num_sessions = sum(each.predecessor is None for seed in SEEDS for each in made(seed))
    assert num_sessions / 3 / 240 == pytest.approx(0.25, rel=0.2)


@pytest.mark.skipif(not TRACELAB.exists(), reason="TraceLab's example rounds are not there")
def test_gaps_are_spread_as_in_tracelab() -> None:
    """Its rounds wait for their slowest tool: as long as ours within a factor of three, and over as many decades."""
    rounds = [json.loads(line) for line in TRACELAB.read_text().splitlines()]
    waits_ms = [[tool["tool_wall_latency_ms"] or 0 for tool in each["tools"]] for each in rounds]
    recorded_s = [max(each) / 1000 for each in waits_ms if each and max(each)]
    requests = made(1)
    gaps_s = [
        each.arrival_s - requests[each.predecessor].arrival_s for each in requests if each.predecessor is not None
    ]
    assert 1 / 3 < mean(gaps_s) / mean(recorded_s) < 3
    assert 1 / 3 < median(gaps_s) / median(recorded_s) < 3
    assert stdev(map(log, gaps_s)) == pytest.approx(stdev(map(log, recorded_s)), rel=0.35)
