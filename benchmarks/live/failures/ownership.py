"""Who owns which keys of the ring before and after a replica was replaced. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from router import BlockHash
from router.ring import Ring

NUM_KEYS = 10_000


def random_keys(seed: int, count: int = NUM_KEYS) -> list[BlockHash]:
    """Places on the ring."""
    rng = Random(f"keys {seed}")
    return [BlockHash(rng.getrandbits(64)) for _ in range(count)]


def owners(rank_to_replica: Mapping[int, str], keys: Sequence[BlockHash], *, virtual_nodes: int) -> list[str]:
    """The replica that owns each key."""
    ring = Ring(rank_to_replica.keys(), virtual_nodes=virtual_nodes)
    return [rank_to_replica[next(ring.successors(key))] for key in keys]


@dataclass(frozen=True, slots=True)
class Handover:
    """What a replacement changed."""

    num_owned_by_dead: int
    moved: Counter[tuple[str, str]]
    """Keys by their owner before and after, where the two differ."""

    def is_exact(self, *, dead: str, replacement: str) -> bool:
        """Whether the replacement owns exactly what the dead replica owned, and no other keys moved."""
        return self.num_owned_by_dead > 0 and self.moved == Counter({(dead, replacement): self.num_owned_by_dead})


def handover(
    before: Mapping[int, str], after: Mapping[int, str], keys: Sequence[BlockHash], *, dead: str, virtual_nodes: int
) -> Handover:
    """Compare the owners of all keys; replicas are given by rank."""
    owned_before = owners(before, keys, virtual_nodes=virtual_nodes)
    owned_after = owners(after, keys, virtual_nodes=virtual_nodes)
    pairs = zip(owned_before, owned_after, strict=True)
    return Handover(owned_before.count(dead), Counter((old, new) for old, new in pairs if old != new))
