"""Compares our totals of prompt and cached tokens with vLLM's own counters. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.harness.snapshots import NOTHING, EngineTotals
from tests.engine_counters import CacheCounters

TOLERANCE = 0.001


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one total. Relative numbers are shares of vLLM's."""

    ours: int
    vllms: int
    uncounted: int
    """Tokens that vLLM may have counted besides ours, or not."""

    @property
    def relative(self) -> float:
        """How much more vLLM counted than we did, as the totals are."""
        return self._share(self.vllms - self.ours)

    @property
    def unexplained(self) -> float:
        """What of it no uncounted token can explain: it needs more than there are, or fewer than none."""
        excess = self.vllms - self.ours
        return self._share(min(excess, 0) + max(excess - self.uncounted, 0))

    @property
    def is_small(self) -> bool:
        """Whether the unexplained rest is within the tolerance."""
        return abs(self.unexplained) <= TOLERANCE

    def _share(self, tokens: int) -> float:
        return tokens / max(self.vllms, 1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one replica. Our totals of prompts with a first output leave out what was aborted before; the engine's word
    of what it looked up does not.
    """

    prompt: Difference
    """Against vLLM's queries."""
    cached: Difference
    """Against vLLM's hits."""
    looked_up: Difference
    """Against vLLM's queries, with nothing left to explain."""
    hit: Difference
    """Against vLLM's hits, likewise."""
    uncounted_tokens: Mapping[str, int]

    @property
    def is_close(self) -> bool:
        """Whether all totals agree."""
        return all(each.is_small for each in (self.prompt, self.cached, self.looked_up, self.hit))


def compare(ours: EngineTotals, vllms: CacheCounters) -> Agreement:
    """What was counted in the same time by us and by vLLM."""
    uncounted = ours.maybe_queried_tokens
    return Agreement(
        Difference(ours.prompt_tokens, vllms.queries, uncounted),
        Difference(ours.cached_tokens - ours.external_cached_tokens, vllms.hits, uncounted),
        Difference(ours.looked_up_tokens, vllms.queries, 0),
        Difference(ours.hit_tokens, vllms.hits, 0),
        ours.uncounted_tokens,
    )


@dataclass(frozen=True, slots=True)
class Counted:
    """Everything counted at one time, by short replica id."""

    ours: Mapping[str, EngineTotals]
    vllms: Mapping[str, CacheCounters]

    def agreement_since(self, before: "Counted") -> dict[str, Agreement]:
        """Each replica's, by id."""
        none = CacheCounters()
        return {
            replica: compare(
                ours.since(before.ours.get(replica, NOTHING)),
                self.vllms.get(replica, none).since(before.vllms.get(replica, none)),
            )
            for replica, ours in self.ours.items()
        }
