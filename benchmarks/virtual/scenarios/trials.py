"""The same requests with and without an event, and what the difference is."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf, nan

from loadtests.replay.results import Replay, RequestRecord, hit_rate
from router import ReplicaId

NUM_BEFORE, NUM_AFTER, NUM_SHARED = 500, 2000, 1000
"""Requests that are looked at; the last ones for how work is shared."""
WINDOW, STRIDE = 500, 50
"""Requests of which a hit rate is taken, and how far apart."""
BACK_RATIO = 0.95
"""Hits are back at so much of the undisturbed hit rate."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The requests of a run around an event, in order of arrival."""

    before: Sequence[RequestRecord]
    """The last ones before it."""
    after: Sequence[RequestRecord]
    since_known: Sequence[RequestRecord]
    """The first since all routers know all of it."""

    def shares(self, replica_ids: Collection[ReplicaId]) -> dict[ReplicaId, float]:
        """What each of them computed since then, over their mean."""
        computed = Counter[ReplicaId]()
        for record in self.since_known:
            computed[record.replica_id] += record.computed_tokens
        total = sum(computed[each] for each in replica_ids)
        return {each: computed[each] * len(replica_ids) / total for each in replica_ids}


@dataclass(frozen=True, slots=True)
class Trial:
    """A run with an event at one time, and the same run without it."""

    disturbed: Excerpt
    undisturbed: Excerpt
    replica_ids: frozenset[ReplicaId]
    """Who is there in the end."""
    newcomer: ReplicaId | None


def cut(run: Replay, *, at_s: float, known_s: float) -> Excerpt:
    """What is looked at of a run."""
    in_order = sorted(run.records, key=lambda record: record.arrival_s)
    num_before = sum(record.arrival_s < at_s for record in in_order)
    since_known = [record for record in in_order if record.arrival_s >= known_s]
    return Excerpt(
        in_order[max(0, num_before - NUM_BEFORE) : num_before],
        in_order[num_before : num_before + NUM_AFTER],
        since_known[:NUM_SHARED],
    )


def ratio_before(trials: Sequence[Trial]) -> float:
    """Hit rate before the event, over the same without it: 1 but for what was under way."""
    return _ratio((each.disturbed.before for each in trials), (each.undisturbed.before for each in trials))


def ratio_after(trials: Sequence[Trial], start: int) -> float:
    """The same for a window that begins that many requests after the event."""
    window = slice(start, start + WINDOW)
    return _ratio(
        (each.disturbed.after[window] for each in trials), (each.undisturbed.after[window] for each in trials)
    )


def until_back(trials: Sequence[Trial]) -> float:
    """Requests after the event, until a window begins in which hits are back; infinite where none does."""
    starts = range(0, NUM_AFTER - WINDOW + 1, STRIDE)
    return next((float(start) for start in starts if ratio_after(trials, start) >= BACK_RATIO), inf)


def _ratio(disturbed: Iterable[Sequence[RequestRecord]], undisturbed: Iterable[Sequence[RequestRecord]]) -> float:
    without = hit_rate(chain.from_iterable(undisturbed))
    return hit_rate(chain.from_iterable(disturbed)) / without if without else nan
