"""Which keys belong to another replica after one came or went, by the ring alone."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from router import BlockHash
from router.ring import Ring

NUM_KEYS = 10_000
ALLOWED_OVER_SHARE = 0.02
"""More than an even share of the keys may move by so much of all keys."""


@dataclass(frozen=True, slots=True)
class RingMovesRow:
    """What one kind of change moves, over all ranks; rates are shares of all keys."""

    change: str
    mean_moved_rate: float
    most_moved_rate: float
    allowed_rate: float
    astray_rate: float
    """The largest share of keys that moved between replicas that were there before and after."""


def run(num_replicas: int, *, virtual_nodes: int) -> Iterator[RingMovesRow]:
    """A row for replicas that leave, each in turn, and one for such that join."""
    rng = Random("ring moves")
    keys = [BlockHash(rng.getrandbits(64)) for _ in range(NUM_KEYS)]
    ranks = set(range(num_replicas))
    owners = _owners(ranks, keys, virtual_nodes)
    change_to_others = {
        "leave": [ranks - {rank} for rank in ranks],
        "join": [ranks | {num_replicas + rank} for rank in ranks],
    }
    for change, others in change_to_others.items():
        moves = [_moves(ranks, owners, each, _owners(each, keys, virtual_nodes)) for each in others]
        yield RingMovesRow(
            change,
            mean_moved_rate=fmean(len(each) for each in moves) / NUM_KEYS,
            most_moved_rate=max(map(len, moves)) / NUM_KEYS,
            allowed_rate=1 / num_replicas + ALLOWED_OVER_SHARE,
            astray_rate=max(map(sum, moves)) / NUM_KEYS,
        )


def _owners(ranks: Collection[int], keys: Sequence[BlockHash], virtual_nodes: int) -> list[int]:
    ring = Ring(ranks, virtual_nodes=virtual_nodes)
    return [next(ring.successors(key)) for key in keys]


def _moves(ranks: set[int], owners: Sequence[int], others: set[int], their_owners: Sequence[int]) -> list[bool]:
    """Whether both owners of each key that moved are in both rings."""
    stayed = ranks & others
    pairs = zip(owners, their_owners, strict=True)
    return [stayed >= {owner, other} for owner, other in pairs if owner != other]
