"""What a replica publishes about itself through Serve, and how a router reads it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

METADATA_KEY = "warmroute"


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """Facts that the routers need of each replica before the first request."""

    rank: int
    block_size: int
    kv_capacity_tokens: int

    def as_metadata(self) -> dict[str, Any]:
        """As an entry of Serve's replica metadata or routing stats."""
        return {METADATA_KEY: asdict(self)}

    @classmethod
    def from_metadata(cls, *sources: Mapping[str, Any]) -> Self | None:
        """From the first source that has the entry; None while a replica has published nothing."""
        for source in sources:
            if METADATA_KEY in source:
                return cls(**source[METADATA_KEY])
        return None
