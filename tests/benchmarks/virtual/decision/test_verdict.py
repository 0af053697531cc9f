"""The rules of the tables, on numbers made for them."""

from dataclasses import replace

import pytest

from benchmarks.virtual.decision.situation import Figures, Situation, Table
from benchmarks.virtual.decision.situations import CONVERSATION
from benchmarks.virtual.decision.verdict import OURS, UNDISTURBED, Check, checks

MADE = Situation(Table.WORKLOADS, "a", "reasoning", 1.0)
TRACE = Situation(Table.TRACES, "b", CONVERSATION, 0.6)
RULE = Figures(mean_ttft_s=1.0, p99_ttft_s=10.0, mean_answer_s=20.0, hit_rate=0.5)


def failed(situation: Situation, **policies: Figures) -> set[tuple[str, str]]:
    """Which checks of ours are not met, and against whom."""
    measured = {situation: {OURS if name == "ours" else name: means for name, means in policies.items()}}
    return {(check.metric, check.other) for check in checks(situation, measured) if check.is_met is False}


@pytest.mark.parametrize("metric", ["mean_ttft_s", "p99_ttft_s", "mean_answer_s"])
def test_each_time_of_a_workload_is_within_three_percent_of_the_best(metric: str) -> None:
    """Of the one that is best in this respect, whoever is best in others."""
    at_limit = replace(RULE, **{metric: 1.03 * getattr(RULE, metric)})
    beyond = replace(RULE, **{metric: 1.031 * getattr(RULE, metric)})
    worse = replace(RULE, mean_ttft_s=2.0, p99_ttft_s=20.0, mean_answer_s=40.0)
    assert not failed(MADE, ours=at_limit, lmetric=RULE, chwbl=worse)
    assert failed(MADE, ours=beyond, lmetric=RULE, chwbl=worse) == {(metric, "lmetric")}


def test_hits_are_compared_with_whoever_is_about_as_fast() -> None:
    """Within a tenth of the best TTFT, ours included; who hits more and is slower does not count."""
    hoarder = replace(RULE, hit_rate=0.9)
    assert failed(MADE, ours=RULE, ray_prefix=hoarder) == {("hit_rate", "ray_prefix")}
    assert not failed(MADE, ours=RULE, ray_prefix=replace(hoarder, mean_ttft_s=1.11))
    assert not failed(MADE, ours=replace(RULE, hit_rate=0.475), chwbl=RULE)
    assert failed(MADE, ours=replace(RULE, hit_rate=0.474), chwbl=RULE)


def test_traces_are_judged_against_shipped_rivals_only() -> None:
    """TTFT up to 1.03 of theirs, and whole answers not longer at all."""
    faster = replace(RULE, mean_ttft_s=0.5, mean_answer_s=10.0)
    assert not failed(
        TRACE, ours=replace(RULE, mean_ttft_s=1.03), dynamo_rule=RULE, dualmap=faster, least_loaded=faster
    )
    assert failed(TRACE, ours=replace(RULE, mean_answer_s=20.1), dynamo_rule=RULE) == {("mean_answer_s", "dynamo_rule")}


def test_the_headline_is_three_quarters_at_equal_hits() -> None:
    """Only with 8 replicas of 500,000 tokens at load 0.8, and only against who hits as much."""
    headline = replace(TRACE, load=0.8)
    ours = replace(RULE, mean_ttft_s=0.76)
    assert not failed(TRACE, ours=ours, chwbl=RULE)
    assert failed(headline, ours=ours, chwbl=RULE) == {("mean_ttft_s", "chwbl")}
    assert not failed(headline, ours=ours, chwbl=replace(RULE, hit_rate=0.4))
    assert not failed(headline, ours=replace(ours, mean_ttft_s=0.75), chwbl=RULE)


def test_robustness_is_about_the_first_token() -> None:
    """Of every rival; a policy that is none, such as one with perfect information, does not count."""
    situation = replace(MADE, table=Table.ROBUSTNESS)
    slow_answers = replace(RULE, mean_answer_s=40.0)
    best = replace(RULE, mean_ttft_s=0.9)
    assert not failed(situation, ours=slow_answers, chwbl=RULE, greedy_oracle=best)
    assert failed(situation, ours=slow_answers, least_loaded=best) == {("mean_ttft_s", "least_loaded")}


@pytest.mark.parametrize(("delay_s", "limit"), [(0.05, 1.03), (0.25, 1.08)])
def test_routers_are_compared_with_one_that_is_told_at_once(delay_s: float, limit: float) -> None:
    """What one router loses whose messages are as late is shown beside it, and judges nothing."""
    alone = Situation(Table.ROUTERS, "alone", CONVERSATION, 0.8, delay_s=0.0)
    late = replace(alone, name="late", delay_s=delay_s)
    many = replace(late, name="many", num_routers=8)
    for factor, is_met in ((limit, True), (limit + 0.001, False)):
        ours = replace(RULE, mean_ttft_s=factor)
        measured = {alone: {OURS: RULE}, late: {OURS: replace(RULE, mean_ttft_s=0.5)}, many: {OURS: ours}}
        found = checks(many, measured)
        assert all(check.is_met is not False for check in found) is is_met
        as_late = f"1 router, {delay_s * 1000:g} ms"
        assert {check.other for check in found} == {"1 router, 0 ms", as_late}
        assert Check("mean_ttft_s", factor / 0.5, as_late, is_met=None) in found
    losing = replace(RULE, hit_rate=RULE.hit_rate * (2 - limit - 0.001))
    found = checks(many, {alone: {OURS: RULE}, many: {OURS: losing}})
    assert [check.metric for check in found if check.is_met is False] == ["hit_rate"]


def test_disturbed_routers_are_compared_with_undisturbed_ones() -> None:
    """And no rule judges them."""
    undisturbed = Situation(Table.ROUTERS, "a", CONVERSATION, 0.8, num_routers=2, disturbance=UNDISTURBED)
    lossy = replace(undisturbed, name="b", disturbance="receipts lost for 10 s")
    found = checks(lossy, {undisturbed: {OURS: RULE}, lossy: {OURS: replace(RULE, mean_ttft_s=1.5)}})
    assert found == [
        Check("mean_ttft_s", 1.5, UNDISTURBED, is_met=None),
        Check("hit_rate", 1.0, UNDISTURBED, is_met=None),
    ]


def test_nothing_is_said_without_ours_or_without_rivals() -> None:
    """There is nothing to compare."""
    assert checks(MADE, {MADE: {"chwbl": RULE}}) == []
    assert checks(MADE, {MADE: {OURS: RULE}}) == []
    late = replace(MADE, table=Table.ROUTERS, delay_s=0.05)
    assert checks(late, {late: {OURS: RULE}}) == []
