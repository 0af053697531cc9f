"""A replica joins, leaves, crashes or is replaced in the middle of a trace: what that costs, and until when.

All is held against the same requests of a run in which nothing happens. Each event is tried at several times and for
several seeds, and hit rates and percentiles are of the requests of all these trials together.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import inf, nan

from loadtests.replay.results import RequestRecord, hit_rate
from loadtests.scenarios.changes import EVENTS, NUM_AFTER, Event, Excerpt, Trial, try_event
from loadtests.several_routers.setup import Setup, simulate
from loadtests.statistics import percentile
from router import ReplicaId

POLICIES = ("prefix_affinity", "llmd_approximate", "least_loaded")
MID_TRACE = (0.4, 0.6)
"""When it happens, as shares of the trace's duration."""
WINDOW, STRIDE = 500, 50
"""Requests of which a hit rate is taken, and how far apart."""
AFTERMATH = 1000
"""Requests by which hits should be back."""
BACK_RATIO = 0.95
"""Hits are back at so much of the undisturbed hit rate."""


@dataclass(frozen=True, slots=True)
class MembershipRow:
    """One event under one policy. Ratios are of hit rates, to the same requests without the event."""

    event: str
    policy: str
    hit_rate: float
    """Of the 1,000 requests after it."""
    ratio_before: float
    """Of the 500 requests before it."""
    at_once: float
    """Of the first 500 after it."""
    then: float
    """Of 500 more, and so on."""
    later: float
    at_last: float
    requests_until_back: float
    """After it, until the first 500 begin that hit at least 0.95 as much as without it; infinite for never."""
    p99_ttft_s: float
    """Of the 1,000 requests after it."""
    p99_without_s: float
    least_share: float
    """Computed tokens of the replica with the fewest over the mean, of 1,000 requests since routers know; at worst."""
    most_share: float
    newcomer: float
    """The least share of the replica that joined, where one did."""
    least_without: float
    most_without: float


def run(setup: Setup) -> Iterator[MembershipRow]:
    """A row for each event and policy."""
    policy_to_trials = {policy: dict(_try_all(setup, policy)) for policy in POLICIES}
    for event in EVENTS:
        for policy, event_to_trials in policy_to_trials.items():
            yield _row(event, policy, event_to_trials[event])


def _try_all(setup: Setup, policy: str) -> Iterator[tuple[Event, list[Trial]]]:
    scenarios = [
        replace(each, policy=policy, num_routers=1, is_asking=False, sample_s=None) for each in setup.scenarios()
    ]
    undisturbed = [simulate(scenario) for scenario in scenarios]
    for event in EVENTS:
        yield (
            event,
            [
                try_event(event, scenario, share * scenario.requests[-1].arrival_s, other)
                for scenario, other in zip(scenarios, undisturbed, strict=True)
                for share in MID_TRACE
            ],
        )


def _row(event: Event, policy: str, trials: Sequence[Trial]) -> MembershipRow:
    at_once, then, later, at_last = (_ratio_after(trials, start) for start in range(0, NUM_AFTER, WINDOW))
    p99_ttft_s, p99_without_s = (
        percentile([each.ttft_s for excerpt in excerpts for each in excerpt.after[:AFTERMATH]], 99)
        for excerpts in ([each.disturbed for each in trials], [each.undisturbed for each in trials])
    )
    shares = [_shares(each.disturbed, each.replica_ids) for each in trials]
    others = [
        _shares(each.undisturbed, {record.replica_id for record in each.undisturbed.since_known}) for each in trials
    ]
    newcomers = [each[trial.newcomer] for trial, each in zip(trials, shares, strict=True) if trial.newcomer]
    return MembershipRow(
        event=event.name,
        policy=policy,
        hit_rate=hit_rate(record for each in trials for record in each.disturbed.after[:AFTERMATH]),
        ratio_before=_ratio([each.disturbed.before for each in trials], [each.undisturbed.before for each in trials]),
        at_once=at_once,
        then=then,
        later=later,
        at_last=at_last,
        requests_until_back=_until_back(trials),
        p99_ttft_s=p99_ttft_s,
        p99_without_s=p99_without_s,
        least_share=min(min(each.values()) for each in shares),
        most_share=max(max(each.values()) for each in shares),
        newcomer=min(newcomers, default=nan),
        least_without=min(min(each.values()) for each in others),
        most_without=max(max(each.values()) for each in others),
    )


def _ratio_after(trials: Sequence[Trial], start: int) -> float:
    """Of one window."""
    window = slice(start, start + WINDOW)
    return _ratio(
        [each.disturbed.after[window] for each in trials], [each.undisturbed.after[window] for each in trials]
    )


def _ratio(disturbed: Sequence[Sequence[RequestRecord]], undisturbed: Sequence[Sequence[RequestRecord]]) -> float:
    without = hit_rate(chain(*undisturbed))
    return hit_rate(chain(*disturbed)) / without if without else nan


def _until_back(trials: Sequence[Trial]) -> float:
    starts = range(0, NUM_AFTER - WINDOW, STRIDE)
    return next((float(start) for start in starts if _ratio_after(trials, start) >= BACK_RATIO), inf)


def _shares(excerpt: Excerpt, replica_ids: Iterable[ReplicaId]) -> dict[ReplicaId, float]:
    """What each of them computed, over the mean."""
    computed = Counter[ReplicaId]()
    for record in excerpt.since_known:
        computed[record.replica_id] += record.computed_tokens
    ids = list(replica_ids)
    total = sum(computed[each] for each in ids)
    return {each: computed[each] * len(ids) / total for each in ids}
