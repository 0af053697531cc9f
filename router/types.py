"""The values that cross the border of the routing core. Plain data; no behaviour beyond derived numbers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

ReplicaId = NewType("ReplicaId", str)
"""Serve's full replica id. New for every process, also for a replacement of the same rank."""

RequestId = NewType("RequestId", str)
"""An id of our own making. Clients may repeat theirs, so a client's id is never used here."""

SessionKey = NewType("SessionKey", int)
"""64-bit hash of the client's own name for its conversation."""

BlockHash = NewType("BlockHash", int)
"""64-bit hash of a full block of tokens, chained with its parent's: equal hash means equal whole prefix."""


TokenHash = NewType("TokenHash", int)
"""64-bit hash of a prompt's token ids."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine process. `rank` outlives the process, so the ring is keyed by it."""

    replica_id: ReplicaId
    rank: int
    kv_capacity_tokens: int
    host_capacity_tokens: int = 0
    """Of a second tier in the host's memory, which keeps copies of what was computed; 0 for none."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine says of itself, at some moment."""

    num_waiting: int
    """Sequences of which nothing is being computed; preempted ones are among them."""
    num_running: int
    """Sequences that are being prefilled or decoded."""
    kv_used_tokens: int
    """KV cache that running sequences take, in tokens; what they share counts once."""
    num_preempted: int
    """How often a running sequence had to give its memory back, since the engine's start."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What the core knows of a request. No `block_hashes` means that its key is unknown, which is not a miss."""

    request_id: RequestId
    model: str
    tenant: str
    num_prompt_tokens: int
    """Of all its prompts together."""
    block_hashes: tuple[BlockHash, ...]
    session_key: SessionKey | None = None
    """Of the client's conversation, a point on the ring; None if it gave no name. The name itself stays outside."""
    stored_at: ReplicaId | None = None
    """Where the response is stored that the request continues: nobody else can serve it. None if it continues none."""
    max_answer_tokens: int | None = None
    """The longest that the client allows each answer to be (`max_tokens`); None if it named no limit."""
    num_prompts: int = 1
    """More than one only where the client sent a list of them."""
    num_choices: int = 1
    """Answers to each prompt (`n`), which is computed once for all of them."""

    @property
    def num_sequences(self) -> int:
        """What it is for an engine, which has a sequence for each answer."""
        return self.num_prompts * self.num_choices


class Reason(StrEnum):
    """Why a replica was chosen."""

    PREFIX = "prefix"
    """It is believed to hold as much of the prompt as any replica, and more than some."""
    RING = "ring"
    """No replica holds more than another; the key's place on the ring decided."""
    SPILL = "spill"
    """Another replica holds more, or owns the key, but waiting there would cost more than it saves."""
    STORED = "stored"
    """It continues a response that only this replica has; no policy was asked."""
    NO_KEY = "no_key"
    """The prompt's tokens are unknown; the least loaded replica was taken."""
    BASELINE = "baseline"
    """The policy does not look at prefixes, or went by load because none matched."""


@dataclass(frozen=True, slots=True)
class ShadowChoice:
    """What a policy that does not steer would have chosen."""

    policy: str
    replica_id: ReplicaId
    regret_tokens: float
    """Prefill tokens that the request would have had to wait for and compute there, less the same where it went, by
    the router's own belief. Above zero, the live decision was better."""


@dataclass(frozen=True, slots=True)
class ShadowFault:
    """A policy that does not steer has failed, now or before."""

    policy: str
    error: Exception
    """The first, with its traceback."""


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """Where a request goes, and what was believed when it was sent there (all counts in tokens)."""

    request_id: RequestId
    replica_id: ReplicaId
    policy: str
    reason: Reason
    num_prompt_tokens: int
    believed_cached_tokens: int
    best_cached_tokens: int
    """The most that any replica was believed to hold: what routing could have reached."""
    shadows: tuple[ShadowChoice | ShadowFault, ...] = ()
    """One of each of the router's shadows; none where no policy was asked."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A decision's claim on a replica, in the form in which routers tell each other about it."""

    request: RouteRequest
    replica_id: ReplicaId
    num_held_blocks: int
    """Leading blocks that the replica was believed to hold already."""
    is_computed: bool
    """Whether nothing was waiting there, so that what was believed held had been computed, not just promised."""
    pending_tokens: int
    """Prefill tokens that the replica has to compute for it, by the same belief."""
    external_tokens: int = 0
    """Prompt tokens beyond the blocks held that were believed to come back from the replica's second tier."""
    answer_tokens: int = 0
    """Prompt tokens beyond the blocks held that are cached if the prompt goes on with the answer before."""
