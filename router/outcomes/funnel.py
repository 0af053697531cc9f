"""The way of a prompt's tokens: offered, reachable, selected, reused, and the cause for which each of the others was
lost.

Each prompt has one record, made of the knowledge when it was sent and of its engine's word. The engine's word is the
truth: the tokens that it reused were selected and reachable, estimated so or not. Every lost token is charged to one
cause, so

offered = reused + the sum of the lost tokens

holds for each record and for all sums of records. Rates are ratios of these sums.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from router.keys.blocks import cacheable_tokens
from router.types import ReplicaId, RequestId, Reservation


class Loss(StrEnum):
    """The causes for which a prompt token had to be computed."""

    PARTIAL_BLOCK = "partial_block"
    """It is in the last block, which is not full, or is the last token: engines never reuse these."""
    NEW = "new"
    """No replica has ever had it cached, as far as is remembered."""
    EVICTED = "evicted"
    """It was cached, and was evicted."""
    GONE = "gone"
    """The replica that had it cached has left, is excluded, or was told to empty its cache."""
    SPILLED = "spilled"
    """Another replica has it cached, and the prompt was not sent there."""
    UNCOMPUTED = "uncomputed"
    """It was about to be computed for another prompt at its replica, and was not in time."""
    MISMATCH = "mismatch"
    """The engine counts more or fewer tokens in this prompt than the router, so its key was wrong."""
    NO_KEY = "no_key"
    """The router could not read the prompt."""


class Known(NamedTuple):
    """The knowledge about a prompt when it was sent, in leading blocks."""

    best_blocks: int
    """The most that an eligible replica had cached."""
    gone_blocks: int
    """The most that any replica had cached, one that is excluded or gone included."""
    seen_blocks: int
    """The most that any replica has ever had cached, as far as is remembered."""
    shared_blocks: int = 0
    """The prefix of other prompts as well, which then go on differently."""


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """A prompt that got its first token. All counts in tokens."""

    request_id: RequestId
    replica_id: ReplicaId
    model: str
    tenant: str
    offered: int
    """Length of the prompt."""
    reachable: int
    """The most that any replica would have reused."""
    selected: int
    """Tokens that the replica was estimated to reuse, at least the reused ones."""
    reused: int
    """Tokens that the engine reused, by its own word."""
    lost: dict[Loss, int]
    """The other tokens, by their cause; without zeros."""
    shared: int = 0
    """Tokens that other prompts begin with as well, such as a system prompt: the prompt's static part."""
    shared_reused: int = 0
    """Shared tokens that were reused."""


def make_record(
    reservation: Reservation, known: Known, *, prompt_tokens: int, cached_tokens: int, block_size: int
) -> CacheRecord:
    """The record of a prompt of `prompt_tokens`, of which its engine reused `cached_tokens`."""
    request = reservation.request
    offered, reused = prompt_tokens, min(cached_tokens, prompt_tokens)

    def tokens(num_blocks: int) -> int:
        return cacheable_tokens(offered, num_blocks=num_blocks, block_size=block_size)

    selected, reachable, shared = reused, reused, 0
    if not request.block_hashes:
        causes = [(Loss.NO_KEY, tokens(offered))]
    elif offered != request.num_prompt_tokens:
        causes = [(Loss.MISMATCH, tokens(offered))]
    else:
        selected = max(reused, tokens(reservation.num_held_blocks) + reservation.external_tokens)
        reachable = max(selected, tokens(known.best_blocks))
        shared = tokens(known.shared_blocks)
        causes = [
            (Loss.EVICTED if reservation.is_computed else Loss.UNCOMPUTED, selected),
            (Loss.SPILLED, reachable),
            (Loss.GONE, tokens(known.gone_blocks)),
            (Loss.EVICTED, tokens(known.seen_blocks)),
            (Loss.NEW, tokens(offered)),
        ]
    lost = _charge(reused, [*causes, (Loss.PARTIAL_BLOCK, offered)])
    return CacheRecord(
        request.request_id,
        reservation.replica_id,
        request.model,
        request.tenant,
        offered=offered,
        reachable=reachable,
        selected=selected,
        reused=reused,
        lost=lost,
        shared=shared,
        shared_reused=min(shared, reused),
    )


def _charge(reused: int, causes: Iterable[tuple[Loss, int]]) -> dict[Loss, int]:
    """Charge each cause for the tokens up to its reach that neither the engine nor a cause before it has reached."""
    lost: Counter[Loss] = Counter()
    reached = reused
    for cause, reach in causes:
        if reach > reached:
            lost[cause] += reach - reached
            reached = reach
    return dict(lost)


@dataclass(slots=True)
class Funnel:
    """The sums of records."""

    prompts: int = 0
    offered: int = 0
    reachable: int = 0
    selected: int = 0
    reused: int = 0
    shared: int = 0
    shared_reused: int = 0
    lost: dict[Loss, int] = field(default_factory=dict)

    def add(self, record: CacheRecord) -> None:
        """Add a prompt."""
        self.prompts += 1
        self.offered += record.offered
        self.reachable += record.reachable
        self.selected += record.selected
        self.reused += record.reused
        self.shared += record.shared
        self.shared_reused += record.shared_reused
        for cause, tokens in record.lost.items():
            self.lost[cause] = self.lost.get(cause, 0) + tokens

    def merge(self, other: "Funnel") -> None:
        """Add the prompts of another funnel."""
        self._merge(other, 1)

    def subtract(self, earlier: "Funnel") -> None:
        """Keep only the prompts since an earlier state."""
        self._merge(earlier, -1)

    def _merge(self, other: "Funnel", factor: int) -> None:
        self.prompts += factor * other.prompts
        self.offered += factor * other.offered
        self.reachable += factor * other.reachable
        self.selected += factor * other.selected
        self.reused += factor * other.reused
        self.shared += factor * other.shared
        self.shared_reused += factor * other.shared_reused
        for cause, tokens in other.lost.items():
            self.lost[cause] = self.lost.get(cause, 0) + factor * tokens

    def check_integrity(self) -> None:
        """Assert that every token is accounted for once."""
        assert self.offered == self.reused + sum(self.lost.values())
        assert self.offered >= self.reachable >= self.selected >= self.reused >= self.shared_reused
        assert self.offered >= self.shared >= self.shared_reused
