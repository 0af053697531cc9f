"""Two routers, of which one or both are replaced by empty ones at mid-trace: how much affinity is lost?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.virtual.several_routers.setup import Setup, simulate, times_in
from loadtests.replay.results import Replay, hit_rate, mean_ttft_s
from loadtests.replay.simulation import Restart, Scenario

AFTERMATHS_S = (60.0, 300.0)
TAIL_S = 60.0
"""Requests are sent for so much longer, so that the last measured ones have company."""
VARIANTS: tuple[tuple[str, tuple[int, ...], bool], ...] = (
    ("one, which adopts its peer's state", (0,), True),
    ("one, which starts empty", (0,), False),
    ("both, empty", (0, 1), False),
)


@dataclass(frozen=True, slots=True)
class RestartRow:
    """Medians of one variant in one aftermath, over restart times and seeds; changes are against no restart."""

    aftermath: str
    restarted: str
    hit_rate: float
    hit_rate_change: float
    mean_ttft_s: float
    ttft_change_s: float


@dataclass(frozen=True, slots=True)
class _Restarted:
    at_s: float
    run: Replay
    undisturbed: Replay


def run(setup: Setup) -> Iterator[RestartRow]:
    """A row for each variant and aftermath."""
    cases = [(scenario, at_s) for scenario in setup.scenarios() for at_s in times_in(scenario)]
    undisturbed = [simulate(_until(scenario, at_s)) for scenario, at_s in cases]
    name_to_restarted = {
        "none": [_Restarted(at_s, other, other) for (_, at_s), other in zip(cases, undisturbed, strict=True)]
    }
    for name, routers, is_adopting in VARIANTS:
        name_to_restarted[name] = [
            _Restarted(at_s, simulate(_until(scenario, at_s), restarts=(Restart(at_s, routers, is_adopting),)), other)
            for (scenario, at_s), other in zip(cases, undisturbed, strict=True)
        ]
    for aftermath_s in AFTERMATHS_S:
        for name, restarted in name_to_restarted.items():
            yield _row(name, restarted, aftermath_s)


def _until(scenario: Scenario, at_s: float) -> Scenario:
    """The scenario without what comes too late to matter."""
    end_s = at_s + max(AFTERMATHS_S) + TAIL_S
    return replace(scenario, requests=tuple(each for each in scenario.requests if each.arrival_s < end_s))


def _row(name: str, cases: list[_Restarted], aftermath_s: float) -> RestartRow:
    hit_rates, hit_rate_changes, ttfts_s, ttft_changes_s = [], [], [], []
    for case in cases:
        records = case.run.arrived_within(case.at_s, case.at_s + aftermath_s)
        others = case.undisturbed.arrived_within(case.at_s, case.at_s + aftermath_s)
        hit_rates.append(hit_rate(records))
        hit_rate_changes.append(hit_rate(records) - hit_rate(others))
        ttfts_s.append(mean_ttft_s(records))
        ttft_changes_s.append(mean_ttft_s(records) - mean_ttft_s(others))
    return RestartRow(
        aftermath=f"{aftermath_s:g} s",
        restarted=name,
        hit_rate=median(hit_rates),
        hit_rate_change=median(hit_rate_changes),
        mean_ttft_s=median(ttfts_s),
        ttft_change_s=median(ttft_changes_s),
    )
