"""Summaries."""

import math

import pytest

from loadtests.replay.results import RequestRecord, Run, hit_rate, mean_ttft_s, summarize
from router import ReplicaId, RequestId


def record(
    replica: str, ttft_s: float, prompt_tokens: int, cached_tokens: int, *, arrival_s: float = 0
) -> RequestRecord:
    """A request."""
    return RequestRecord(RequestId(""), arrival_s, ReplicaId(replica), ttft_s, prompt_tokens, cached_tokens)


def test_a_summary_by_hand() -> None:
    """Three replicas, of which one got nothing: 400 and 200 prompt tokens, 100 and 200 of them computed."""
    records = [record("a", 1, 300, 200), record("a", 3, 100, 100), record("b", 2, 200, 0)]
    summary = summarize(records, num_replicas=3)
    assert (summary.hit_rate, summary.mean_ttft_s, summary.p50_ttft_s) == (0.5, 2, 2)
    assert summary.p95_ttft_s == pytest.approx(2.9)
    assert (summary.prompt_imbalance, summary.computed_imbalance) == (2, 2)


def test_of_no_requests_there_is_no_rate() -> None:
    """Rather than a wrong one."""
    assert math.isnan(hit_rate([]))
    assert math.isnan(mean_ttft_s([]))


def test_a_window_has_its_start_and_not_its_end() -> None:
    """So that windows can follow each other."""
    records = tuple(record("a", 1, 1, 0, arrival_s=second) for second in range(4))
    run = Run(records, (), 4, 0, 0, 4, 0, {}, {})
    assert [each.arrival_s for each in run.arrived_within(1, 3)] == [1, 2]
    assert run.agreement == 1
