"""From what replicas do to how many are wanted. No Ray, no clock, no I/O, and nothing remembered.

The unit of work is a prompt token that is not cached: when prompts hit less at the same rate of requests, there is more
of it, and when a replica more splits the caches, that is seen too. Everything is summed over replicas, so that it does
not matter among how many of them the work is spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

ROUNDING = 1e-9
"""So much of a replica is none: sums of floating-point numbers are not exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaWork:
    """One replica's own figures."""

    arriving_tokens_per_s: float
    """Uncached prompt tokens that come to it."""
    waiting_tokens: float
    """Number of these tokens that are not computed yet."""
    kv_use: float
    """Share of its KV cache in use by running requests, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a replica can do, and how much of that is meant to be used."""

    prefill_tokens_per_s: float
    """What an engine computes."""
    prefill_use: float
    """Share of it that is meant to be used, 0 to 1; the rest keeps waiting short."""
    kv_use: float
    """Share of the KV cache that running requests are meant to use, 0 to 1; the rest holds prefixes for later."""
    backlog_s: float
    """Seconds in which what waits is worked off, besides what comes in that time."""
    slack: float
    """A replica goes only where the rest would stay below the targets by this share, 0 to less than 1: its prefixes
    have to be computed again elsewhere, which must not call it back."""


def wanted_replicas(loads: Sequence[ReplicaWork], targets: Targets, *, current: int) -> int:
    """How many replicas there should be, when `current` are meant to be there; the same without any figures."""
    if not loads:
        return current
    needed = needed_replicas(loads, targets)
    return min(max(current, _whole(needed)), _whole(needed / (1 - targets.slack)))


def needed_replicas(loads: Sequence[ReplicaWork], targets: Targets) -> float:
    """The largest of three needs, in replicas: to compute what comes, to work off what waits, to hold what runs.

    A backlog is not divided by the time to first token that was promised: what waits stays where it was sent, and a
    replica that starts now relieves others of what comes later only.
    """
    arriving_tokens_per_s = max(0.0, sum(each.arriving_tokens_per_s for each in loads))
    waiting_tokens = sum(each.waiting_tokens for each in loads)
    to_compute = arriving_tokens_per_s / targets.prefill_use
    to_catch_up = arriving_tokens_per_s + waiting_tokens / targets.backlog_s
    to_hold = sum(each.kv_use for each in loads) / targets.kv_use
    return max(to_compute / targets.prefill_tokens_per_s, to_catch_up / targets.prefill_tokens_per_s, to_hold)


def _whole(replicas: float) -> int:
    return ceil(replicas - ROUNDING)
