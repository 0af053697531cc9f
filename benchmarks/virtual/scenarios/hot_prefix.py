"""One prefix makes most of the traffic for a while: is it spread over enough replicas, and gathered again after?

The load is the same at all times. It counts all prompt tokens; or, of hot requests, only what is left where the prefix
hits, which makes several times as many requests, and more hot ones than one replica can serve.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan
from random import Random

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.scenarios.fan_out import FanOut
from benchmarks.virtual.scenarios.hot_traffic import PREFIX, HotTraffic, heat
from benchmarks.virtual.several_routers.setup import Setup, simulate
from loadtests.replay.engine import EngineOptions
from loadtests.replay.results import Replay, hit_rate, mean_ttft_s
from loadtests.replay.simulation import Scenario
from loadtests.report.statistics import percentile

PURE, BLIND = "pure_affinity", "least_loaded"
POLICIES = ("prefix_affinity", BLIND, PURE, "llmd_approximate", "sglang_cache_aware")
SETTLED_AFTER = 500
"""Requests after the peak by which fan-out should be 1."""


@dataclass(frozen=True, slots=True)
class HotPrefixRow:
    """What one policy reaches; hit rates and times are those of all requests that came in the peak."""

    load_counts: str
    policy: str
    hit_rate: float
    hit_rate_ratio: float
    """Ratio to the hit rate of pure affinity."""
    mean_ttft_s: float
    p95_ttft_s: float
    p95_ratio: float
    """Ratio to the p95 of the least loaded."""
    others_ttft_s: float
    """Mean of the requests that are not hot."""
    fan_out_before: float
    """Replicas that served the last hot requests before the peak."""
    at_tenth: float
    """Replicas that served the last hot requests at a tenth of the peak."""
    at_half: float
    at_end: float
    at_most: float
    settled: float
    """Replicas that serve the hot requests that follow the 500 requests after the peak."""
    settled_main_share: float
    """The share of these that went to one replica."""
    requests_until_one: float
    """Requests of all kinds from the peak's end until one replica gets 50 hot ones in a row; infinite for never."""
    meant_at_most: float
    """The most replicas that our router meant for the prefix in the peak; of no meaning to other policies."""
    requests_until_meant_for_one: float
    """Requests of all kinds from the peak's end until our router meant the prefix for one replica only."""


def run(setup: Setup) -> Iterator[HotPrefixRow]:
    """A row for each way of counting and each policy, the mean over the seeds."""
    for load_counts, is_prefix_counted in (("all prompts", True), ("all but the prefix", False)):
        cases = [
            (scenario, _traffic(scenario, load=setup.load, is_prefix_counted=is_prefix_counted))
            for scenario in setup.scenarios()
        ]
        yield from _compared([mean_row([_row(load_counts, policy, *case) for case in cases]) for policy in POLICIES])


def _traffic(scenario: Scenario, *, load: float, is_prefix_counted: bool) -> HotTraffic:
    return heat(
        scenario.requests,
        tokens_per_s=load * scenario.num_replicas * EngineOptions().prefill_tokens_per_s,
        is_prefix_counted=is_prefix_counted,
        rng=Random(f"hot {scenario.seed}"),
    )


def _row(load_counts: str, policy: str, scenario: Scenario, traffic: HotTraffic) -> HotPrefixRow:
    result = simulate(
        scenario,
        requests=traffic.requests,
        policy=policy,
        num_routers=1,
        is_asking=False,
        sample_s=None,
        watched_prefix=PREFIX,
    )
    in_peak = result.arrived_within(traffic.peak_start_s, traffic.peak_end_s)
    fan_out = FanOut(result.records, traffic.hot_arrivals_s)

    def in_peak_s(time_s: float) -> bool:
        return traffic.peak_start_s <= time_s < traffic.peak_end_s

    start, end = fan_out.position(traffic.peak_start_s), fan_out.position(traffic.peak_end_s)
    return HotPrefixRow(
        load_counts=load_counts,
        policy=policy,
        hit_rate=hit_rate(in_peak),
        hit_rate_ratio=nan,
        mean_ttft_s=mean_ttft_s(in_peak),
        p95_ttft_s=percentile([each.ttft_s for each in in_peak], 95),
        p95_ratio=nan,
        others_ttft_s=mean_ttft_s([each for each in in_peak if each.arrival_s not in traffic.hot_arrivals_s]),
        fan_out_before=float(fan_out.before(start)),
        at_tenth=float(fan_out.before(start + (end - start) // 10)),
        at_half=float(fan_out.before((start + end) // 2)),
        at_end=float(fan_out.before(end)),
        at_most=float(fan_out.most(start, end)),
        settled=float(fan_out.after(end + SETTLED_AFTER)),
        settled_main_share=fan_out.main_share(end + SETTLED_AFTER),
        requests_until_one=fan_out.num_until_one(end),
        meant_at_most=float(max(meant for time_s, meant in result.fan_outs if in_peak_s(time_s))),
        requests_until_meant_for_one=_until_meant_for_one(result, fan_out, end),
    )


def _until_meant_for_one(result: Replay, fan_out: FanOut, end: int) -> float:
    last_wider_s = max((time_s for time_s, meant in result.fan_outs if meant > 1), default=0.0)
    return float(max(0, fan_out.position(last_wider_s) + 1 - end))


def _compared(rows: Sequence[HotPrefixRow]) -> Iterator[HotPrefixRow]:
    policy_to_row = {row.policy: row for row in rows}
    for row in rows:
        yield replace(
            row,
            hit_rate_ratio=row.hit_rate / policy_to_row[PURE].hit_rate,
            p95_ratio=row.p95_ttft_s / policy_to_row[BLIND].p95_ttft_s,
        )
