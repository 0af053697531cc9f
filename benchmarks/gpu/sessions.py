"""Conversations of token ids, made from a seed: system prompts that many share, and turns that go on from each other.

The answers in a history are made up, too, so no prompt depends on what an engine said.
"""

from dataclasses import dataclass
from random import Random

from serve_app.calibration.probe import TOKEN_IDS

SPREAD = 0.5
"""Share by which a message's length varies, up and down."""


@dataclass(frozen=True, slots=True)
class TurnTraffic:
    """What is asked."""

    num_sessions: int
    requests_per_s: float
    """The mean, if engines answered at once: sessions arrive at random whatever the engines do, but a turn waits for
    the answer before it."""
    turns: int
    """Mean turns of a session; from 1 to twice as many less one."""
    num_prefixes: int
    """System prompts; the first is used most, the n-th an n-th as often."""
    prefix_tokens: int
    """Tokens of each system prompt; 0 for none. With one turn then, no prompt shares anything."""
    message_tokens: int
    """Mean tokens of a user's message."""
    answer_tokens: int
    think_s: float
    """Mean seconds from an answer to the next turn."""

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest prompt that can come, with its answer."""
        message_tokens = _length(self.message_tokens, 1 + SPREAD)
        return self.prefix_tokens + self.max_turns * (message_tokens + self.answer_tokens)

    @property
    def max_turns(self) -> int:
        """Turns of the longest session."""
        return 2 * self.turns - 1


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a session."""

    prompt: tuple[int, ...]
    think_s: float
    """Seconds after the answer before it; 0 for the first."""


@dataclass(frozen=True, slots=True)
class Session:
    """One user's conversation."""

    arrival_s: float
    """Seconds after the first session's arrival."""
    turns: tuple[Turn, ...]


def make_sessions(traffic: TurnTraffic, *, seed: str) -> list[Session]:
    """Sessions in order of arrival; the same for the same seed."""
    rng = Random(seed)
    prefixes = [_tokens(traffic.prefix_tokens, rng) for _ in range(traffic.num_prefixes)]
    weights = [1 / place for place in range(1, traffic.num_prefixes + 1)]
    sessions = []
    arrival_s = 0.0
    for _ in range(traffic.num_sessions):
        prefix = rng.choices(prefixes, weights)[0]
        sessions.append(Session(arrival_s, tuple(_turns(traffic, prefix, rng))))
        arrival_s += rng.expovariate(traffic.requests_per_s / traffic.turns)
    return sessions


def _turns(traffic: TurnTraffic, prefix: list[int], rng: Random) -> list[Turn]:
    history = list(prefix)
    turns = []
    for number in range(rng.randint(1, traffic.max_turns)):
        history += _tokens(_length(traffic.message_tokens, rng.uniform(1 - SPREAD, 1 + SPREAD)), rng)
        think_s = rng.expovariate(1 / traffic.think_s) if number and traffic.think_s else 0.0
        turns.append(Turn(tuple(history), think_s))
        history += _tokens(traffic.answer_tokens, rng)
    return turns


def _length(mean_tokens: int, share: float) -> int:
    return max(1, round(mean_tokens * share))


def _tokens(count: int, rng: Random) -> list[int]:
    return rng.choices(TOKEN_IDS, k=count)
