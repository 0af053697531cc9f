"""Workloads that are made, not recorded: the same requests for the same seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from loadtests.replay.generators import agents, workloads
from loadtests.replay.generators.texts import BLOCK_SIZE_TOKENS, Draft, in_order
from loadtests.replay.trace import TraceRequest

__all__ = ["DURATION_S", "GENERATORS", "Generator", "generate"]

DURATION_S = 240.0
"""How long new requests, or sessions, come."""
MakeDrafts = Callable[..., Iterator[Draft]]
"""Takes a generator of random numbers, and the keywords `rate` and `duration_s`."""


@dataclass(frozen=True, slots=True)
class Generator:
    """A workload, and the replicas that it is meant for."""

    make_drafts: MakeDrafts
    num_replicas: int
    kv_tokens: int
    """KV cache of each replica, in tokens."""
    is_closed_loop: bool = False
    block_size: int = BLOCK_SIZE_TOKENS


GENERATORS = {
    "reasoning": Generator(workloads.reasoning, 8, 500_000),
    "mixed": Generator(workloads.mixed, 8, 500_000),
    "tenants": Generator(workloads.tenants, 8, 150_000),
    "chats": Generator(workloads.chats, 8, 500_000, is_closed_loop=True),
    "burst": Generator(workloads.burst, 4, 40_000),
    "agents": Generator(agents.agents, 8, 500_000, is_closed_loop=True, block_size=agents.BLOCK_SIZE_TOKENS),
}
"""The generators by name."""


def generate(name: str, *, seed: int, rate: float = 1.0, duration_s: float = DURATION_S) -> tuple[TraceRequest, ...]:
    """The requests of a generator in order of arrival.

    Args:
        name: one of `GENERATORS`.
        seed: other seeds give other arrivals, lengths and texts.
        rate: a factor on the arrivals a second; `burst` comes in that much less time.
        duration_s: how long new requests, or sessions, come.

    """
    drafts = GENERATORS[name].make_drafts(Random(f"{name} {seed}"), rate=rate, duration_s=duration_s)
    return in_order(drafts)
