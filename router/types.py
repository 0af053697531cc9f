"""The values that cross the border of the routing core. Plain data; no behaviour beyond derived numbers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

ReplicaId = NewType("ReplicaId", str)
"""Serve's full replica id; new for every process, also for a replacement of the same rank."""

RequestId = NewType("RequestId", str)
"""An id of our own making. Clients may repeat theirs, so a client's id is never used here."""

SessionKey = NewType("SessionKey", int)
"""64-bit hash of the client's own name for its conversation."""

BlockHash = NewType("BlockHash", int)
"""64-bit hash of a full block of tokens, chained with its parent's: equal hashes mean equal prefixes."""

TokenHash = NewType("TokenHash", int)
"""64-bit hash of a prompt's token ids."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine process. `rank` outlives the process, so the ring is keyed by it."""

    replica_id: ReplicaId
    rank: int
    kv_capacity_tokens: int
    host_capacity_tokens: int = 0
    """Size of a second tier in the host's memory, which keeps copies of computed blocks; 0 for none."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """An engine's own numbers at some moment."""

    num_waiting: int
    """Sequences that are not being computed, preempted ones included."""
    num_running: int
    """Sequences that are being prefilled or decoded."""
    kv_used_tokens: int
    """KV cache that running sequences take, in tokens; shared tokens count once."""
    num_preempted: int
    """Preemptions of running sequences since the engine's start."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """A request as the core sees it. No `block_hashes` means that its key is unknown, which is not a miss."""

    request_id: RequestId
    model: str
    tenant: str
    num_prompt_tokens: int
    """Length of all its prompts together, in tokens."""
    block_hashes: tuple[BlockHash, ...]
    session_key: SessionKey | None = None
    """Key of the client's conversation on the ring; None if it gave no name. The name itself stays outside."""
    stored_at: ReplicaId | None = None
    """The replica that stores the response which the request continues, and alone can serve it; None if it continues
    none."""
    max_answer_tokens: int | None = None
    """The client's limit for each answer (`max_tokens`); None if it named none."""
    num_prompts: int = 1
    """Number of prompts; more than one only where the client sent a list of them."""
    num_choices: int = 1
    """Number of answers to each prompt (`n`), which is computed once for all of them."""

    @property
    def num_sequences(self) -> int:
        """Number of sequences in the engine, which has one for each answer."""
        return self.num_prompts * self.num_choices


class Reason(StrEnum):
    """The reasons to choose a replica."""

    PREFIX = "prefix"
    """It is estimated to have as much of the prompt cached as any replica, and more than some."""
    RING = "ring"
    """No replica has more cached than another; the key's place on the ring decided."""
    SPILL = "spill"
    """Another replica has more cached, or owns the key, but waiting there would cost more than it saves."""
    STORED = "stored"
    """It continues a response that only this replica has; no policy was asked."""
    NO_KEY = "no_key"
    """The prompt's tokens are unknown; the least loaded replica was taken."""
    BASELINE = "baseline"
    """The policy ignores prefixes, or went by load because none matched."""


@dataclass(frozen=True, slots=True)
class ShadowChoice:
    """The choice of a policy whose decisions do not count."""

    policy: str
    replica_id: ReplicaId
    regret_tokens: float
    """Prefill tokens that the request would have had to wait for and compute there, less those where it went, as
    estimated by the router. Above zero, the live decision was better."""


@dataclass(frozen=True, slots=True)
class ShadowFault:
    """The failure of a policy whose decisions do not count, now or before."""

    policy: str
    error: Exception
    """The first error, with its traceback."""


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """The replica for a request, and the estimates by which it was sent there (all counts in tokens)."""

    request_id: RequestId
    replica_id: ReplicaId
    policy: str
    reason: Reason
    num_prompt_tokens: int
    believed_cached_tokens: int
    best_cached_tokens: int
    """The most that any replica was estimated to have cached: the best result that routing could have reached."""
    shadows: tuple[ShadowChoice | ShadowFault, ...] = ()
    """The answer of each of the router's shadows; none where no policy was asked."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A decision's claim on a replica, in the form in which routers tell each other about it."""

    request: RouteRequest
    replica_id: ReplicaId
    num_held_blocks: int
    """Leading blocks that the replica was estimated to have cached already."""
    is_computed: bool
    """Whether no request was waiting there, so that the cached blocks had been computed, and not just promised."""
    pending_tokens: int
    """Prefill tokens that the replica has to compute for it, by the same estimate."""
    external_tokens: int = 0
    """Prompt tokens after the cached blocks that were estimated to come back from the replica's second tier."""
    answer_tokens: int = 0
    """Prompt tokens after the cached blocks that are cached, too, if the prompt goes on with an earlier answer."""
