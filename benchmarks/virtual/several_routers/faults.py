"""Two routers, and messages that are late, lost, doubled or out of order: what it costs, and when it is over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.several_routers.setup import Setup, simulate, times_in
from loadtests.replay.reservation_check import ReservationSample
from loadtests.replay.results import Replay, RequestRecord, hit_rate, mean_ttft_s
from loadtests.replay.simulation import Scenario
from loadtests.replay.transport import Channel, Effect, Fault, delayed, dropped, duplicated, reordered

FAULT_S = 10.0
AFTERMATH_S = 60.0
RECEIPTS = frozenset({Channel.RECEIPTS})
RESERVATIONS = frozenset({Channel.RESERVATIONS})
BOTH = RECEIPTS | RESERVATIONS


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    effect: Effect
    channels: frozenset[Channel]
    is_lasting: bool
    """Whether it lasts for the whole run; otherwise it comes and goes several times."""
    sender: str | None = None
    receiver: str | None = None


CASES = (
    _Case("receipts 1 s late", delayed(1.0), RECEIPTS, is_lasting=True),
    _Case("receipts reordered within 1 s", reordered(1.0), RECEIPTS, is_lasting=True),
    _Case("all messages reordered within 1 s", reordered(1.0), BOTH, is_lasting=True),
    _Case("all messages twice within 1 s", duplicated(1.0), BOTH, is_lasting=True),
    _Case("receipts dropped for 10 s", dropped, RECEIPTS, is_lasting=False),
    _Case("reservations dropped for 10 s", dropped, RESERVATIONS, is_lasting=False),
    _Case("all messages dropped for 10 s", dropped, BOTH, is_lasting=False),
    _Case("receipts of one replica dropped for 10 s", dropped, RECEIPTS, is_lasting=False, sender="replica-0"),
    _Case("all messages to one router dropped for 10 s", dropped, BOTH, is_lasting=False, receiver="router-1"),
)


@dataclass(frozen=True, slots=True)
class FaultRow:
    """What one kind of fault costs."""

    fault: str
    hit_rate: float
    mean_ttft_s: float
    hit_rate_then: float
    """Hit rate from each fault's start until a minute after its end."""
    hit_rate_without: float
    """Hit rate at the same time in a run without faults."""
    ttft_then_s: float
    ttft_without_s: float
    drift_tokens: float
    """Mean over the routers, from each fault's start until a minute after its end; summed over replicas."""
    max_drift_during_tokens: float
    """The largest of any router during a fault."""
    max_drift_after_tokens: float
    """The largest of any router in the minute after each fault's end."""
    right_after_s: float
    """Seconds from a fault's end until every router counts its requests rightly again, at worst."""
    reservations_left: float
    """The most reservations in any router when everything is over."""


@dataclass(frozen=True, slots=True)
class _Window:
    start_s: float
    end_s: float


def run(setup: Setup) -> Iterator[FaultRow]:
    """A row without faults and one for each kind, the mean over the seeds."""
    scenarios = tuple(setup.scenarios())
    faultless = [simulate(scenario) for scenario in scenarios]
    yield mean_row(
        [_row("none", each, each, _windows(scenario)) for scenario, each in zip(scenarios, faultless, strict=True)]
    )
    for case in CASES:
        yield mean_row([_suffer(case, scenario, other) for scenario, other in zip(scenarios, faultless, strict=True)])


def _suffer(case: _Case, scenario: Scenario, faultless: Replay) -> FaultRow:
    windows = (_Window(0, scenario.requests[-1].arrival_s),) if case.is_lasting else _windows(scenario)
    faults = tuple(
        Fault(case.effect, case.channels, window.start_s, window.end_s, sender=case.sender, receiver=case.receiver)
        for window in windows
    )
    return _row(case.name, simulate(scenario, faults=faults), faultless, windows)


def _windows(scenario: Scenario) -> tuple[_Window, ...]:
    return tuple(_Window(start_s, start_s + FAULT_S) for start_s in times_in(scenario))


def _row(name: str, run: Replay, faultless: Replay, windows: Sequence[_Window]) -> FaultRow:
    then, otherwise = _arrived_then(run, windows), _arrived_then(faultless, windows)
    during = _drifts_tokens(run, [(each.start_s, each.end_s) for each in windows])
    after = _drifts_tokens(run, [(each.end_s, each.end_s + AFTERMATH_S) for each in windows])
    return FaultRow(
        fault=name,
        hit_rate=hit_rate(run.records),
        mean_ttft_s=mean_ttft_s(run.records),
        hit_rate_then=hit_rate(then),
        hit_rate_without=hit_rate(otherwise),
        ttft_then_s=mean_ttft_s(then),
        ttft_without_s=mean_ttft_s(otherwise),
        drift_tokens=fmean(during + after),
        max_drift_during_tokens=float(max(during)),
        max_drift_after_tokens=float(max(after)),
        right_after_s=max(_right_after_s(run.samples, window) for window in windows),
        reservations_left=float(max(run.router_to_reservations_left.values())),
    )


def _arrived_then(run: Replay, windows: Sequence[_Window]) -> list[RequestRecord]:
    return [record for window in windows for record in run.arrived_within(window.start_s, window.end_s + AFTERMATH_S)]


def _drifts_tokens(run: Replay, spans: Sequence[tuple[float, float]]) -> list[int]:
    return [
        sample.drift_tokens for sample in run.samples for start_s, end_s in spans if start_s <= sample.time_s < end_s
    ]


def _right_after_s(samples: Sequence[ReservationSample], window: _Window) -> float:
    """Seconds from the fault's end to the last wrong sample that belongs to it."""
    until_s = window.end_s + AFTERMATH_S
    wrong = (each.time_s for each in samples if each.num_wrong and window.start_s <= each.time_s < until_s)
    return max(0.0, max(wrong, default=0.0) - window.end_s)
