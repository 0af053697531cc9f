"""What a replica publishes about itself through Serve, and how a router reads it."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

METADATA_KEY = "warmroute"


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """Facts that the routers need of each replica before the first request."""

    rank: int
    block_size: int
    kv_capacity_tokens: int
    host_capacity_tokens: int = 0
    """Tokens that a second tier has room for (`serve_app.replica.vllm_host_tier`); 0 for none or an
    unknown one."""

    def as_metadata(self) -> dict[str, Any]:
        """The facts as an entry of Serve's replica metadata or routing stats."""
        return {METADATA_KEY: asdict(self)}

    @classmethod
    def from_metadata(cls, *sources: Mapping[str, Any]) -> Self | None:
        """The facts in the first source that has the entry; None while a replica has published nothing.

        Another version may have published more, which is passed over, or less. What has no default must be there.
        """
        names = [field.name for field in fields(cls)]
        needed = [field.name for field in fields(cls) if field.default is MISSING]
        for source in sources:
            entry = source.get(METADATA_KEY, {})
            if all(name in entry for name in needed):
                return cls(**{name: entry[name] for name in names if name in entry})
        return None
