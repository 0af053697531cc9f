"""The state that a router hands to one that joins: its estimates and its bookings. Plain data."""

from dataclasses import dataclass
from typing import NamedTuple

from router.types import BlockHash, EngineLoad, ReplicaId, Reservation


@dataclass(frozen=True, slots=True)
class HeldRun:
    """Consecutive blocks that a replica is estimated to have cached."""

    parent: int | None
    """Index, among the replica's runs, of the run on which this one builds; None at the start of prompts."""
    block_hashes: tuple[BlockHash, ...]
    num_ends: int
    """Prompts that ended with the last block."""
    is_prompt: bool = True
    """Whether a prompt contains the blocks; if not, they are an answer."""


@dataclass(frozen=True, slots=True)
class BookedRequest:
    """An outstanding request."""

    reservation: Reservation
    pending_tokens: int
    """The rest of the reservation's pending tokens."""
    prompt_tokens_left: int
    """Prompt tokens whose prefill was not reported yet; 0 when all of its sequences are being decoded."""
    has_arrived: bool
    """Whether its replica has told of it."""
    answer_tokens: float | None = None
    """Expected length of each answer, in tokens; None from a router that does not estimate it."""


@dataclass(frozen=True, slots=True)
class ProgressState:
    """A replica's speed, and its progress with its present prompt."""

    elapsed_s: float
    """Time since it began with its present prompt, in seconds."""
    work_s: float = 0.0
    """Recent work, in seconds at the model's speed."""
    seconds: float = 0.0
    """Time that this work took, in seconds."""


class AnswerMean(NamedTuple):
    """Sums over the last answers of a class, of which earlier ones count less."""

    tokens: float = 0.0
    """Length of the answers, in tokens."""
    answers: float = 0.0
    """Number of the answers."""


class AnswerClass(NamedTuple):
    """The answers to requests with this first block, or of this session."""

    key: int
    """Hash of the block or of the session's name."""
    mean: AnswerMean


@dataclass(frozen=True, slots=True)
class LearnedState:
    """Means that belong to no replica in particular."""

    answers: AnswerMean
    """The answers to all requests."""
    answer_classes: tuple[AnswerClass, ...]
    """The longest unused class first. Each class goes with the state of one replica."""
    continued_tokens: float
    """Tokens of the earlier answers with which prompts went on lately."""
    found_tokens: float
    """Those of these tokens that were cached."""
    others_share: float
    """Share of the decisions that other routers made, 0 to 1."""
    delay_s: float
    """Mean delay of news, in seconds."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A router's state of one replica."""

    replica_id: ReplicaId
    held: tuple[HeldRun, ...]
    """Its cached runs, most recently used first, and each after its parent."""
    booked: tuple[BookedRequest, ...]
    """Its outstanding requests, in the order in which they were sent."""
    recent_tokens: float
    """Recent work, in prefill tokens."""
    recent_requests: float
    """Requests that this work was."""
    progress: ProgressState
    held_in_tier: tuple[HeldRun, ...] | None = None
    """The runs in its second tier, likewise; None if it has none, or none that is proven."""
    engine: EngineLoad | None = None
    """Last numbers that its engine told of itself; None if it told none."""
    computed_since_tokens: int = 0
    """Prompt tokens computed since the engine told its numbers."""
    learned: LearnedState | None = None
    """The means that belong to no replica, with a part of the classes of answers."""
