"""Ours against the best rival, and whether that is good enough: the rule of each table."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from benchmarks.virtual.decision.results import Measured
from benchmarks.virtual.decision.situation import Figures, Situation, Table
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
UNDISTURBED = "undisturbed"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison of ours with another."""

    metric: str
    ratio: float
    """Ours to the other's."""
    other: str
    """The rival, or what else ours is compared with."""
    is_met: bool | None
    """None where no rule judges it."""


def checks(situation: Situation, measured: Measured) -> list[Check]:
    """The comparisons by the rule of its table; none where one of the two was not measured."""
    policy_to_figures = measured[situation]
    if OURS not in policy_to_figures:
        return []
    if situation.table is Table.ROUTERS:
        return _router_checks(situation, measured)
    rivals = {name: figures for name, figures in policy_to_figures.items() if name in RIVALS}
    ours = policy_to_figures[OURS]
    match situation.table:
        case Table.WORKLOADS:
            return _workload_checks(ours, rivals)
        case Table.TRACES:
            return _trace_checks(situation, ours, _only(rivals, SHIPPED))
        case _:
            return _against_best(ours, rivals, {"mean_ttft_s": WITHIN})


def _workload_checks(ours: Figures, rivals: Mapping[str, Figures]) -> list[Check]:
    """Within 3 % of the best in all times, and hitting as much as the best of those that are about as fast."""
    found = _against_best(ours, rivals, dict.fromkeys(("mean_ttft_s", "p99_ttft_s", "mean_answer_s"), WITHIN))
    if rivals:
        limit_s = NEAR_BEST * min(figures.mean_ttft_s for figures in (ours, *rivals.values()))
        near = {name: figures for name, figures in rivals.items() if figures.mean_ttft_s <= limit_s}
        found += _hits(ours, near)
    return found


def _trace_checks(situation: Situation, ours: Figures, shipped: Mapping[str, Figures]) -> list[Check]:
    """Never above 1.03 of the best shipped rival's TTFT, nor above its whole-answer time."""
    found = _against_best(ours, shipped, {"mean_ttft_s": WITHIN, "mean_answer_s": 1.0})
    is_headline = (situation.num_replicas, situation.kv_tokens, situation.load) == (8, 500_000, 0.8)
    if situation.workload == CONVERSATION and is_headline:
        equal = {name: figures for name, figures in shipped.items() if figures.hit_rate >= HIT_SHARE * ours.hit_rate}
        found += _against_best(ours, equal, {"mean_ttft_s": HEADLINE_TTFT})
    return found


def _router_checks(situation: Situation, measured: Measured) -> list[Check]:
    """Compare with one router whose messages take no time; for information with one whose messages are as late.

    Disturbed routers are compared with undisturbed ones, for information.
    """
    others: dict[str, tuple[Situation, float | None]]
    if situation.disturbance:
        others = {UNDISTURBED: (replace(situation, disturbance=UNDISTURBED), None)}
    else:
        others = {
            f"1 router, {delay_s * 1000:g} ms": (
                replace(situation, num_routers=1, delay_s=delay_s),
                LATE_LIMITS[situation.delay_s] if delay_s == 0 else None,
            )
            for delay_s in (0.0, situation.delay_s)
        }
    if _find(measured, next(iter(others.values()))[0]) is None:
        return []
    return [check for name, other in others.items() for check in _compared(situation, name, *other, measured)]


def _compared(
    situation: Situation, name: str, other: Situation, limit: float | None, measured: Measured
) -> Iterator[Check]:
    """Ours in two situations, judged where there is a limit."""
    ours, theirs = measured[situation][OURS], _find(measured, other)
    if theirs is not None:
        ttft, hits = ours.mean_ttft_s / theirs.mean_ttft_s, ours.hit_rate / theirs.hit_rate
        yield Check("mean_ttft_s", ttft, name, is_met=None if limit is None else ttft <= limit)
        yield Check("hit_rate", hits, name, is_met=None if limit is None else hits >= 2 - limit)


def _find(measured: Measured, wanted: Situation) -> Figures | None:
    """Ours in a situation, whatever its name."""
    for situation, policy_to_figures in measured.items():
        if replace(situation, name=wanted.name) == wanted:
            return policy_to_figures.get(OURS)
    return None


def _against_best(ours: Figures, rivals: Mapping[str, Figures], metric_to_limit: Mapping[str, float]) -> list[Check]:
    found = []
    for metric, limit in metric_to_limit.items():
        if rivals:
            name_to_value = {name: getattr(figures, metric) for name, figures in rivals.items()}
            best = min(rivals, key=name_to_value.__getitem__)
            ratio = getattr(ours, metric) / name_to_value[best]
            found.append(Check(metric, ratio, best, is_met=ratio <= limit))
    return found


def _hits(ours: Figures, rivals: Mapping[str, Figures]) -> list[Check]:
    if not rivals:
        return []
    best = max(rivals, key=lambda name: rivals[name].hit_rate)
    if not rivals[best].hit_rate:
        return []
    ratio = ours.hit_rate / rivals[best].hit_rate
    return [Check("hit_rate", ratio, best, is_met=ratio >= HIT_SHARE)]


def _only(rivals: Mapping[str, Figures], names: Collection[str]) -> dict[str, Figures]:
    return {name: figures for name, figures in rivals.items() if name in names}
