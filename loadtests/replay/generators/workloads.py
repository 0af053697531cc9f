"""Workloads in which answers decide: long ones behind few system prompts, and a burst that fills the memory."""

from collections.abc import Iterator
from functools import partial
from random import Random

from loadtests.replay.generators.texts import (
    Draft,
    Text,
    lognormal_tokens,
    poisson_times,
    round_limit,
)

ANSWER_SIGMA = 0.7
"""Sigma of the lognormal lengths of answers."""
LIMITED_SHARE = 0.3
"""Share of the clients that set `max_tokens`, where no one knows how long an answer will be."""
NUM_TENANTS = 8
NUM_TURNS = 4
NUM_STREAMS = 8
STREAM_TOKENS = 8_000
STREAMS_WITHIN_S = 2.4
FOLLOWERS_FROM_S = 20.0
"""The start of the short requests after the burst: by then its prompts are computed."""
FOLLOWERS_PER_S = 0.25


def reasoning(rng: Random, *, rate: float, duration_s: float) -> Iterator[Draft]:
    """4 a second behind one system prompt of 1,536 tokens; answers of 3,000 tokens in the median."""
    system = Text().extended(1_536, rng)
    return _answered_at_length(rng, [("", system)], [1.0], per_s=4 * rate, median_tokens=3_000, duration_s=duration_s)


def mixed(rng: Random, *, rate: float, duration_s: float) -> Iterator[Draft]:
    """2 a second answered at length (4,000) behind one system prompt; 4 a second long and cold with short answers."""
    system = Text().extended(3_072, rng)
    yield from _answered_at_length(
        rng, [("", system)], [1.0], per_s=2 * rate, median_tokens=4_000, duration_s=duration_s
    )
    for arrival_s in poisson_times(rng, per_s=4 * rate, duration_s=duration_s):
        prompt = Text().extended(rng.randint(4_800, 7_200), rng)
        yield _single(rng, arrival_s, prompt, num_output_tokens=lognormal_tokens(rng, median_tokens=50, sigma=0.5))


def tenants(rng: Random, *, rate: float, duration_s: float) -> Iterator[Draft]:
    """4 a second of 8 tenants by Zipf's law, each with a system prompt of 4,096; answers of 2,000 in the median."""
    systems = [(f"tenant-{number}", Text().extended(4_096, rng)) for number in range(NUM_TENANTS)]
    weights = [(number + 1) ** -1.2 for number in range(NUM_TENANTS)]
    return _answered_at_length(rng, systems, weights, per_s=4 * rate, median_tokens=2_000, duration_s=duration_s)


def chats(rng: Random, *, rate: float, duration_s: float) -> Iterator[Draft]:
    """0.4 sessions a second of 4 turns behind one system prompt of 1,024; answers are a part of the next prompt."""
    system = Text().extended(1_024, rng)
    for number, start_s in enumerate(poisson_times(rng, per_s=0.4 * rate, duration_s=duration_s)):
        arrival_s, text, turn = start_s, system, None
        for _ in range(NUM_TURNS):
            prompt = text.extended(rng.randint(100, 500), rng)
            num_output_tokens = lognormal_tokens(rng, median_tokens=3_000, sigma=ANSWER_SIGMA)
            text = prompt.extended(num_output_tokens, rng)
            limit_tokens = round_limit(num_output_tokens, rng, share=LIMITED_SHARE)
            turn = Draft(arrival_s, prompt, text, limit_tokens, session_id=f"chat-{number}", predecessor=turn)
            yield turn
            arrival_s += rng.uniform(2, 12)


def burst(rng: Random, *, rate: float, duration_s: float) -> Iterator[Draft]:
    """8 streams of 8,000 tokens within 2.4 s, and then only a few short requests; every client says how long.

    All share a system prompt of 1,536 tokens, so that one replica's memory has room for four whole streams.
    """
    system = Text().extended(1_536, rng)
    for number in range(NUM_STREAMS):
        arrival_s = STREAMS_WITHIN_S * (number + rng.random()) / NUM_STREAMS / rate
        prompt = system.extended(rng.randint(400, 600), rng)
        yield _announced(rng, arrival_s, prompt, num_output_tokens=STREAM_TOKENS)
    for after_s in poisson_times(rng, per_s=FOLLOWERS_PER_S * rate, duration_s=min(duration_s, 100)):
        prompt = system.extended(rng.randint(200, 400), rng)
        answer_tokens = lognormal_tokens(rng, median_tokens=50, sigma=0.5)
        yield _announced(rng, FOLLOWERS_FROM_S + after_s, prompt, num_output_tokens=answer_tokens)


def _answered_at_length(
    rng: Random,
    systems: list[tuple[str, Text]],
    weights: list[float],
    *,
    per_s: float,
    median_tokens: float,
    duration_s: float,
) -> Iterator[Draft]:
    """Single requests of some 300 own tokens behind a system prompt that is drawn by weight, with its tenant."""
    length = partial(lognormal_tokens, rng, median_tokens=median_tokens, sigma=ANSWER_SIGMA)
    for arrival_s in poisson_times(rng, per_s=per_s, duration_s=duration_s):
        tenant, system = rng.choices(systems, weights)[0]
        prompt = system.extended(rng.randint(200, 400), rng)
        yield _single(rng, arrival_s, prompt, num_output_tokens=length(), tenant=tenant)


def _single(rng: Random, arrival_s: float, prompt: Text, *, num_output_tokens: int, tenant: str = "") -> Draft:
    limit_tokens = round_limit(num_output_tokens, rng, share=LIMITED_SHARE)
    return Draft(arrival_s, prompt, prompt.extended(num_output_tokens, rng), limit_tokens, tenant=tenant)


def _announced(rng: Random, arrival_s: float, prompt: Text, *, num_output_tokens: int) -> Draft:
    return Draft(arrival_s, prompt, prompt.extended(num_output_tokens, rng), num_output_tokens)
