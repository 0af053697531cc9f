"""Ours against the best rival, and whether that is good enough: the rule of each table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.virtual.decision.situation import CellFigures, Situation, Table
from benchmarks.virtual.decision.situations import CONVERSATION

OURS = "prefix_affinity"
SHIPPED = (
    "llmd_scraped",
    "sglang_cache_aware",
    "ray_prefix",
    "ray_kv_aware",
    "chwbl",
    "dynamo_rule",
    "dynamo_service",
)
RIVALS = (*SHIPPED, "least_loaded", "lmetric", "dualmap")
WITHIN = 1.03
"""The ratio up to which ours is as good as the best rival: 3 % above."""
HIT_SHARE = 0.95
NEAR_BEST = 1.1
"""Rivals whose first tokens come so much later than the best one's are not asked how much they hit."""
HEADLINE_TTFT = 0.75
"""The ratio to the best shipped rival's TTFT at equal hits, on conversations, 8 replicas of 500k tokens, load 0.8."""
LATE_LIMITS = {0.0: 1.03, 0.05: 1.03, 0.25: 1.08}
"""Limits by the delay in seconds: TTFT over that of one router without delay; hits may lose as much."""


@dataclass(frozen=True, slots=True)
class Means:
    """A policy's results in a situation, over the seeds."""

    mean_ttft_s: float
    p99_ttft_s: float
    mean_answer_s: float
    hit_rate: float
    num_seeds: int


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of ours with another."""

    metric: str
    ratio: float
    """Ours to the other's."""
    other: str
    """The rival, or what else ours is compared with."""
    is_met: bool


Situations = Mapping[Situation, Mapping[str, Means]]
"""Means by situation, then by policy."""


def means(results: Sequence[CellFigures]) -> Means:
    """The means of at least one result."""
    return Means(
        fmean(each.mean_ttft_s for each in results),
        fmean(each.p99_ttft_s for each in results),
        fmean(each.mean_answer_s for each in results),
        fmean(each.hit_rate for each in results),
        len(results),
    )


def checks(situation: Situation, measured: Situations) -> list[Check]:
    """The comparisons by the rule of its table; none where one of the two was not measured."""
    policy_to_means = measured[situation]
    if OURS not in policy_to_means:
        return []
    if situation.table is Table.ROUTERS:
        return _router_checks(situation, measured)
    rivals = {name: each for name, each in policy_to_means.items() if name in RIVALS}
    ours = policy_to_means[OURS]
    match situation.table:
        case Table.WORKLOADS:
            return _workload_checks(ours, rivals)
        case Table.TRACES:
            return _trace_checks(situation, ours, _only(rivals, SHIPPED))
        case _:
            return _against_best(ours, rivals, {"mean_ttft_s": WITHIN})


def _workload_checks(ours: Means, rivals: Mapping[str, Means]) -> list[Check]:
    """Within 3 % of the best in all times, and hitting as much as the best of those that are about as fast."""
    found = _against_best(ours, rivals, dict.fromkeys(("mean_ttft_s", "p99_ttft_s", "mean_answer_s"), WITHIN))
    if rivals:
        limit_s = NEAR_BEST * min(each.mean_ttft_s for each in (ours, *rivals.values()))
        near = {name: each for name, each in rivals.items() if each.mean_ttft_s <= limit_s}
        found += _hits(ours, near)
    return found


def _trace_checks(situation: Situation, ours: Means, shipped: Mapping[str, Means]) -> list[Check]:
    """Never above 1.03 of the best shipped rival's TTFT, nor above its whole-answer time."""
    found = _against_best(ours, shipped, {"mean_ttft_s": WITHIN, "mean_answer_s": 1.0})
    is_headline = (situation.num_replicas, situation.kv_tokens, situation.load) == (8, 500_000, 0.8)
    if situation.workload == CONVERSATION and is_headline:
        equal = {name: each for name, each in shipped.items() if each.hit_rate >= HIT_SHARE * ours.hit_rate}
        found += _against_best(ours, equal, {"mean_ttft_s": HEADLINE_TTFT})
    return found


def _router_checks(situation: Situation, measured: Situations) -> list[Check]:
    """Compare with one router whose messages take no time and, for information, with one whose messages are as late."""
    ours, limit = measured[situation][OURS], LATE_LIMITS[situation.delay_s]
    found: list[Check] = []
    if _find(measured, situation.workload, 0.0) is None:
        return found
    for delay_s in dict.fromkeys((0.0, situation.delay_s)):
        alone = _find(measured, situation.workload, delay_s)
        if alone is not None:
            name, is_rule = f"1 router, {delay_s * 1000:g} ms", delay_s == 0.0
            ttft, hits = ours.mean_ttft_s / alone.mean_ttft_s, ours.hit_rate / alone.hit_rate
            found.append(Check("mean_ttft_s", ttft, name, is_met=ttft <= limit or not is_rule))
            found.append(Check("hit_rate", hits, name, is_met=hits >= 2 - limit or not is_rule))
    return found


def _find(measured: Situations, workload: str, delay_s: float) -> Means | None:
    """Ours with a single router."""
    for situation, policy_to_means in measured.items():
        asked = (situation.table, situation.workload, situation.num_routers, situation.delay_s)
        if asked == (Table.ROUTERS, workload, 1, delay_s):
            return policy_to_means.get(OURS)
    return None


def _against_best(ours: Means, rivals: Mapping[str, Means], metric_to_limit: Mapping[str, float]) -> list[Check]:
    found = []
    for metric, limit in metric_to_limit.items():
        if rivals:
            name_to_value = {name: getattr(each, metric) for name, each in rivals.items()}
            best = min(rivals, key=name_to_value.__getitem__)
            ratio = getattr(ours, metric) / name_to_value[best]
            found.append(Check(metric, ratio, best, is_met=ratio <= limit))
    return found


def _hits(ours: Means, rivals: Mapping[str, Means]) -> list[Check]:
    if not rivals:
        return []
    best = max(rivals, key=lambda name: rivals[name].hit_rate)
    if not rivals[best].hit_rate:
        return []
    ratio = ours.hit_rate / rivals[best].hit_rate
    return [Check("hit_rate", ratio, best, is_met=ratio >= HIT_SHARE)]


def _only(rivals: Mapping[str, Means], names: Collection[str]) -> dict[str, Means]:
    return {name: each for name, each in rivals.items() if name in names}
