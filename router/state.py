"""What a router can hand to one that joins later: all it believes and has booked. Plain data."""

from dataclasses import dataclass

from router.types import BlockHash, ReplicaId, Reservation


@dataclass(frozen=True, slots=True)
class HeldRun:
    """Consecutive blocks that a replica is believed to hold."""

    parent: int | None
    """Where among the replica's runs the one is on which this one builds; None at the start of prompts."""
    block_hashes: tuple[BlockHash, ...]
    num_ends: int
    """Prompts that ended with the last of them."""


@dataclass(frozen=True, slots=True)
class BookedRequest:
    """A request outstanding somewhere."""

    reservation: Reservation
    pending_tokens: int
    """What is left of the reservation's pending tokens."""
    prompt_tokens_left: int
    """Prompt tokens whose prefill was not reported yet; none are left once it is being decoded."""
    has_arrived: bool


@dataclass(frozen=True, slots=True)
class ProgressState:
    """How fast a replica computes, and since when it has been computing its present prompt."""

    elapsed_s: float
    work_s: float
    """What it computed lately takes so long at the model's speed ..."""
    seconds: float
    """... and took so long."""


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
