"""A router's view of its cluster, as it tells operators, `warmroute doctor` and the benchmarks.

A snapshot crosses processes as plain data (`as_plain`), so that both versions can read each other during an upgrade: a
reader passes over fields that it does not know, and a field that is added later has a default. Snapshots hold counts
and ids only, and the hashes of prefixes where a reader asks for them.

Waiting and running are counts of sequences, to the router as to its engine: a request for several answers has several.
"""

from typing import Any, Self

import msgspec

from router import ShadowTotals
from serve_app.messages.prompt_totals import PromptTotals


class EngineSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A replica's own numbers, as of its last heartbeat."""

    waiting: int | None = None
    """Sequences that wait; None before the engine's first step, and without its statistics, as the next three."""
    running: int | None = None
    kv_use: float | None = None
    """The share of the KV cache that running sequences use, 0 to 1."""
    preempted: int | None = None
    """How often a running sequence had to give its memory back, since the engine's start."""
    prompt_tokens: int = 0
    """Tokens of all prompts that had a first output, since the replica's start."""
    cached_tokens: int = 0
    """The part of `prompt_tokens` that came from a cache."""
    external_cached_tokens: int = 0
    """The part of `cached_tokens` that came from a second tier."""
    uncounted_tokens: dict[str, int] = {}
    """Prompt tokens that are not in `prompt_tokens`, by cause."""
    looked_up_tokens: int = 0
    """Prompt tokens that the engine looked up in its prefix cache."""
    hit_tokens: int = 0
    """The part of `looked_up_tokens` that it found."""
    own_tokens: int = 0
    """The part of `prompt_tokens` of prompts that the replica made itself."""
    left_tokens: int = 0
    """The part of `prompt_tokens` of requests whose clients left before the first output."""
    answer_tokens: int = 0
    """Tokens that the engine generated for all requests that are over."""


class ReplicaSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One replica, as one router sees it."""

    rank: int
    ring_share: float
    """The share of all keys that the ring gives to this replica, 0 to 1."""
    kv_capacity_tokens: int
    host_capacity_tokens: int = 0
    """The capacity of a second tier; 0 without one."""
    tier_share: float = 0.0
    """The share of what the second tier should have that it gave back, 0 to 1."""
    pending_tokens: int
    """Prompt tokens that the replica has still to compute."""
    waiting: int
    """Sequences without a first token."""
    running: int
    """Sequences that are being decoded."""
    recent_tokens: int
    believed_blocks: int
    """The number of blocks that the replica has cached, as far as the router knows."""
    knowledge: str
    """How the router knows what the replica has cached: `kv_events` or `receipts`."""
    heard_s_ago: float | None
    """Seconds since the router last heard of the replica; None before the first time."""
    excluded: str | None
    """Why the router sends the replica nothing (`router.Exclusion`); None if it does."""
    parity: str
    """Whether the replica finds prompts by the router's keys (`serve_app.parity.verdicts.Verdict`)."""
    tokenizer: str = ""
    """The tokenizer in use, and why it is not fastokens; empty until the replica has told."""
    engine: EngineSnapshot | None
    """None before the first heartbeat."""

    @property
    def outstanding(self) -> int:
        """Sequences that wait or run, by the router's count."""
        return self.waiting + self.running


class HotPrefix(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that several prompts share."""

    hash: str
    """The hash of its last block. A text can be tried against it, so the operators' application shows another name."""
    tokens: int
    work_share: float
    """The share of recent work that was for prompts with this prefix, 0 to 1."""
    fan_out: int
    """The number of replicas that it is meant for."""
    ranks: list[int]
    """The replicas that have it cached."""


class ReaderSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a router reads prompts."""

    tokenizer: str
    """The tokenizer in use, and why it is not fastokens."""
    fast_texts: int = 0
    """The number of texts that fastokens tokenised."""
    chats: dict[str, int | bool] | None = None
    """Counts of the memo of chats; None without one."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the prompts that one router placed, since its start. Each prompt counts for its replica's rank,
    and for its tenant if it has one.
    """

    by_rank: dict[int, PromptTotals] = msgspec.field(name="rank", default_factory=dict)
    by_tenant: dict[str, PromptTotals] = msgspec.field(name="tenant", default_factory=dict)


class RouterSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One router, and all replicas as it sees them."""

    router: str
    """The router's id."""
    policy: str
    model: str
    engine: str
    """The kind of the replicas' engines: `vllm`, or `simulated`."""
    decisions: dict[str, int]
    """The number of decisions by reason, since the start; so are all counts."""
    unreadable: dict[str, int]
    """The number of prompts without a key, by reason."""
    shadows: dict[str, ShadowTotals]
    """Each shadow's totals by its policy, since the routing settings were applied."""
    prompts: ReaderSnapshot | None = None
    """None before the router can read any."""
    totals: Totals = msgspec.field(name="accounts")
    reservations_dropped: int
    """The number of decisions that the other routers did not hear of."""
    refused: dict[str, int]
    """The number of messages that the router refused, by reason."""
    kv_events_lost: int
    tasks: int
    """The number of asyncio tasks of the router's process."""
    hot_prefixes: list[HotPrefix] = []
    block_size: int | None
    """Tokens in a block; None before the router knows a replica."""
    remembered: int
    """The number of ended requests that the router remembers."""
    replicas: dict[str, ReplicaSnapshot]
    """The replicas by full id."""

    def as_plain(self) -> dict[str, Any]:
        """The snapshot as plain data, which crosses processes."""
        plain: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return plain

    @classmethod
    def from_plain(cls, plain: object) -> Self:
        """The snapshot that `as_plain` made plain, perhaps in another version.

        Raises:
            msgspec.ValidationError: a field is missing, or has another type.

        """
        return msgspec.convert(plain, cls, str_keys=True)


def short_id(full_id: str) -> str:
    """The end of a full id, `SERVE_REPLICA::<application>#<deployment>#<short id>`, which Serve's and Ray's own lists
    show of a replica or a router.
    """
    return full_id.rpartition("#")[2]
