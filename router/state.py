"""What a router can hand to one that joins later: all it believes and has booked. Plain data."""

from dataclasses import dataclass
from typing import NamedTuple

from router.types import BlockHash, EngineLoad, ReplicaId, Reservation


@dataclass(frozen=True, slots=True)
class HeldRun:
    """Consecutive blocks that a replica is believed to hold."""

    parent: int | None
    """Where among the replica's runs the one is on which this one builds; None at the start of prompts."""
    block_hashes: tuple[BlockHash, ...]
    num_ends: int
    """Prompts that ended with the last of them."""
    is_prompt: bool = True
    """Whether a prompt begins with them; an answer does not."""


@dataclass(frozen=True, slots=True)
class BookedRequest:
    """A request outstanding somewhere."""

    reservation: Reservation
    pending_tokens: int
    """What is left of the reservation's pending tokens."""
    prompt_tokens_left: int
    """Prompt tokens whose prefill was not reported yet; none are left once all of it is being decoded."""
    has_arrived: bool
    answer_tokens: float | None = None
    """What each of its answers is expected to be; None from a router that does not expect any."""


@dataclass(frozen=True, slots=True)
class ProgressState:
    """How fast a replica computes, and since when it has been computing its present prompt."""

    elapsed_s: float
    work_s: float = 0.0
    """What it computed lately takes so long at the model's speed ..."""
    seconds: float = 0.0
    """... and took so long."""


class AnswerMean(NamedTuple):
    """Of the last answers of a class, each counted as far as it is not forgotten."""

    tokens: float = 0.0
    answers: float = 0.0


class AnswerClass(NamedTuple):
    """What is known of the answers to requests with this first block, or of this session."""

    key: int
    mean: AnswerMean


@dataclass(frozen=True, slots=True)
class LearnedState:
    """What a router has learned that is of no replica in particular."""

    answers: AnswerMean
    """Of all requests."""
    answer_classes: tuple[AnswerClass, ...]
    """Used longest ago first; each class goes with the state of one replica."""
    continued_tokens: float
    """Of answers that prompts lately went on with ..."""
    found_tokens: float
    """... and what was found of them."""
    others_share: float
    """Of decisions, those of other routers."""
    delay_s: float
    """How long their news take."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica, as a router sees it."""

    replica_id: ReplicaId
    held: tuple[HeldRun, ...]
    """Most recently used first, and each after its parent."""
    booked: tuple[BookedRequest, ...]
    recent_tokens: float
    recent_requests: float
    progress: ProgressState
    held_in_tier: tuple[HeldRun, ...] | None = None
    """In its second tier, likewise; None if it has none, or none that was proved."""
    engine: EngineLoad | None = None
    """Its engine's own numbers, as told last; None if it told none."""
    computed_since_tokens: int = 0
    """Prompt tokens computed since then."""
    learned: LearnedState | None = None
    """A part of what the router has learned otherwise."""
