"""How long users think, how long prompts and answers are, what is popular. Laws fitted to traces, which are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import Any

CHARS_PER_TOKEN = 4
"""The usual rule for English text; only lengths depend on it."""
MIN_ANSWER_TOKENS, MAX_ANSWER_TOKENS = 8, 256
_P90 = 1.2816
"""Standard deviations from a normal law's median to its 90th percentile."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Given by two percentiles, as traces report them."""

    median: float
    p90: float

    def draw(self, rng: Random) -> float:
        """One value, above 0."""
        return self.median * exp(rng.gauss(0.0, log(self.p90 / self.median) / _P90))


USER_THINK_S = LogNormal(123.0, 441.9)
"""Between requests that share a conversation's prefix, in an hour of Kimi's traffic (Mooncake, FAST'25, conversation
trace). It includes the time of the answer before."""
TOOL_S = LogNormal(1.08, 2.03)
"""Between an agent's calls in 20 runs of mini-swe-agent (LMCache's agent traces); tools that run programs."""
ONE_SHOT_PROMPT_TOKENS = LogNormal(1020, 2735)
ONE_SHOT_ANSWER_TOKENS = LogNormal(129, 424)
"""Both: an hour of Azure's conversations (Azure LLM inference trace 2023)."""
MAX_ONE_SHOT_PROMPT_TOKENS = 4142
"""The same trace's 99th percentile."""
REASONING_ANSWER_TOKENS = LogNormal(3_000, 7_357)
LONG_ANSWER_TOKENS = LogNormal(4_000, 9_810)
"""Both: a standard deviation of 0.7 in the logarithm. Reasoning models; our choice, as the following ones."""
MAX_LONG_ANSWER_TOKENS = 12_000
"""A limit that fits, with its prompt, into a context of 16,384 tokens."""
REASONING_SYSTEM_TOKENS, LONG_ANSWER_SYSTEM_TOKENS = 1_536, 3_072
OWN_PROMPT_TOKENS = (200, 400)
"""Behind a system prompt, from and to."""
COLD_PROMPT_TOKENS = (4_800, 7_200)
COLD_ANSWER_TOKENS = LogNormal(50, 95)


def zipf_index(rng: Random, size: int) -> int:
    """A number below `size`, the first ones often: Zipf's law with exponent 1.

    Of 12 the first is drawn by 32 % and one of the first five by 74 %; ServeGen's clients of its small model send
    30 % and 77 % of its requests.
    """
    return rng.choices(range(size), weights=[1 / rank for rank in range(1, size + 1)])[0]


def zipf_sample(rng: Random, items: Sequence[Any], num: int) -> list[Any]:
    """A number of different items, in the order drawn; all of them where there are no more."""
    left = list(items)
    return [left.pop(zipf_index(rng, len(left))) for _ in range(min(num, len(left)))]


def clamp_answer_tokens(num_tokens: float) -> int:
    """Within what the load tests wait for."""
    return round(min(max(num_tokens, MIN_ANSWER_TOKENS), MAX_ANSWER_TOKENS))
