"""Where a prompt's tokens went: offered, reachable, selected, reused, and for what each of the others was lost.

One record for each prompt, from what was known when it was sent and from what its engine says. The engine's word is the
truth: what it reused was selected and reachable, believed or not. Every lost token is charged to one cause, so

offered = reused + the sum of what was lost

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
    """Why a prompt token had to be computed."""

    PARTIAL_BLOCK = "partial_block"
    """It is in the prompt's end, which fills no block, or is the last one: engines never reuse these."""
    NEW = "new"
    """No replica ever held it, as far as is remembered."""
    EVICTED = "evicted"
    """It was held, and had to make room."""
    GONE = "gone"
    """Who held it has left or is out of the choice, or was told to empty its cache."""
    SPILLED = "spilled"
    """Another replica holds it, and the prompt was not sent there."""
    UNCOMPUTED = "uncomputed"
    """It was sent where it was about to be computed for another prompt, and was not in time."""
    MISMATCH = "mismatch"
    """The engine made another number of tokens of this prompt than the router, so its key was of something else."""
    NO_KEY = "no_key"
    """The router could not read the prompt."""


class Known(NamedTuple):
    """What was known of a prompt when it was sent, in leading blocks."""

    best_blocks: int
    """The most that a replica in the choice held."""
    gone_blocks: int
    """The most that one which is gone or out of the choice held."""
    seen_blocks: int
    """What any replica ever held, as far as is remembered."""
    shared_blocks: int = 0
    """What begins other prompts as well, which then go on differently."""


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One prompt that got its first token. All counts in tokens."""

    request_id: RequestId
    replica_id: ReplicaId
    model: str
    tenant: str
    offered: int
    """The prompt."""
    reachable: int
    """The most that any replica would have reused."""
    selected: int
    """What the replica was believed to reuse, and at least what it did."""
    reused: int
    """What the engine says."""
    lost: dict[Loss, int]
    """All others, by their cause; no zeros."""
    shared: int = 0
    """What begins other prompts as well, such as a system prompt: the prompt's static part."""
    shared_reused: int = 0
    """Of this, what was reused."""


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
    """Each cause pays for the tokens up to where it reaches which none before it, nor the engine, has reached."""
    lost: Counter[Loss] = Counter()
    reached = reused
    for cause, reach in causes:
        if reach > reached:
            lost[cause] += reach - reached
            reached = reach
    return dict(lost)


@dataclass(slots=True)
class Funnel:
    """Sums of records."""

    prompts: int = 0
    offered: int = 0
    reachable: int = 0
    selected: int = 0
    reused: int = 0
    shared: int = 0
    shared_reused: int = 0
    lost: dict[Loss, int] = field(default_factory=dict)

    def add(self, record: CacheRecord) -> None:
        """One prompt more."""
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
        """The prompts of another one more."""
        self._merge(other, 1)

    def subtract(self, earlier: "Funnel") -> None:
        """Only what came after this one's state at an earlier time."""
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
