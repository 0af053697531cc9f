"""A replica joins, leaves, crashes or is replaced in the middle of a trace: what that costs, and until when.

Everything is compared with the same requests of an undisturbed run. Each event is tried at several times and for
several seeds, and hit rates and percentiles are of the requests of all these trials together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

from benchmarks.virtual.scenarios.changes import EVENTS, Event, try_event
from benchmarks.virtual.scenarios.trials import NUM_AFTER, WINDOW, Excerpt, Trial, ratio_after, ratio_before, until_back
from benchmarks.virtual.several_routers.setup import Setup, simulate
from loadtests.replay.results import hit_rate
from loadtests.report.statistics import percentile
from router import ReplicaId

POLICIES = ("prefix_affinity", "llmd_approximate", "least_loaded")
MID_TRACE = (0.4, 0.6)
"""When it happens, as shares of the trace's duration."""
AFTERMATH = 1000
"""Requests by which hits should be back."""


@dataclass(frozen=True, slots=True)
class MembershipRow:
    """What one event costs under one policy; ratios are of hit rates, to the same requests without the event."""

    event: str
    policy: str
    hit_rate: float
    """Figure of the 1,000 requests after the event."""
    ratio_before: float
    """Ratio for the 500 requests before the event."""
    at_once: float
    """Ratio for the first 500 requests after the event."""
    then: float
    """Ratio for the next 500 requests, and so on."""
    later: float
    at_last: float
    requests_until_back: float
    """Requests after the event until 500 begin that hit at least 0.95 as much as without it; infinite for never."""
    p99_ttft_s: float
    """Figure of the 1,000 requests after the event."""
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
                try_event(event, scenario, at_s=share * scenario.requests[-1].arrival_s, undisturbed=other)
                for scenario, other in zip(scenarios, undisturbed, strict=True)
                for share in MID_TRACE
            ],
        )


def _row(event: Event, policy: str, trials: Sequence[Trial]) -> MembershipRow:
    after = [record for each in trials for record in each.disturbed.after[:AFTERMATH]]
    without = [record for each in trials for record in each.undisturbed.after[:AFTERMATH]]
    at_once, then, later, at_last = (ratio_after(trials, start) for start in range(0, NUM_AFTER, WINDOW))
    shares = [each.disturbed.shares(each.replica_ids) for each in trials]
    newcomers = [each[trial.newcomer] for trial, each in zip(trials, shares, strict=True) if trial.newcomer]
    others = [each.undisturbed.shares(_served(each.undisturbed)) for each in trials]
    return MembershipRow(
        event=event.name,
        policy=policy,
        hit_rate=hit_rate(after),
        ratio_before=ratio_before(trials),
        at_once=at_once,
        then=then,
        later=later,
        at_last=at_last,
        requests_until_back=until_back(trials),
        p99_ttft_s=percentile([each.ttft_s for each in after], 99),
        p99_without_s=percentile([each.ttft_s for each in without], 99),
        least_share=min(min(each.values()) for each in shares),
        most_share=max(max(each.values()) for each in shares),
        newcomer=min(newcomers, default=nan),
        least_without=min(min(each.values()) for each in others),
        most_without=max(max(each.values()) for each in others),
    )


def _served(excerpt: Excerpt) -> set[ReplicaId]:
    return {record.replica_id for record in excerpt.since_known}
