"""Summaries."""

import math

import pytest

from loadtests.replay.results import (
    CacheSample,
    Replay,
    RequestRecord,
    WorkWindow,
    hit_rate,
    in_windows,
    mean_ttft_s,
    summarize,
    ttft_quantiles_s,
)
from router import ReplicaId, RequestId


def record(
    replica: str, ttft_s: float, prompt_tokens: int, cached_tokens: int, *, arrival_s: float = 0
) -> RequestRecord:
    """A request."""
    return RequestRecord(RequestId(""), arrival_s, ReplicaId(replica), ttft_s, prompt_tokens, cached_tokens)


def make_run(*records: RequestRecord, cache_samples: tuple[CacheSample, ...] = (), deciding_s: float = 0) -> Replay:
    """Answers are one token long, and the last session began after 10 s."""
    finished_s = tuple(each.first_token_s for each in records)
    return Replay(records, (), cache_samples, finished_s, 0, 0, len(records), 10, {}, {}, deciding_s)


def test_a_summary_by_hand() -> None:
    """Three replicas, of which one got nothing: 400 and 200 prompt tokens, 100 and 200 of them computed."""
    records = [record("a", 1, 300, 200), record("a", 3, 100, 100), record("b", 2, 200, 0)]
    summary = summarize(make_run(*records), num_replicas=3, ttft_limit_s=2)
    assert (summary.hit_rate, summary.mean_ttft_s, summary.p50_ttft_s) == (0.5, 2, 2)
    assert (summary.p90_ttft_s, summary.p95_ttft_s) == pytest.approx((2.8, 2.9))
    assert (summary.goodput_rps, summary.served_rps) == (0.2, 0.3)
    assert (summary.prompt_imbalance, summary.computed_imbalance) == (2, 2)
    assert math.isnan(summary.copies)
    assert math.isnan(summary.decisions_per_s)


def test_requests_a_second_count_from_the_first_arrival() -> None:
    """To the last that waits for no answer: here 2 s."""
    assert summarize(make_run(record("a", 1, 1, 0, arrival_s=8)), num_replicas=1).served_rps == 0.5


def test_requests_a_second_are_those_of_the_time_in_which_sessions_begin() -> None:
    """10 s here. One long session after that makes no policy slow, and what is late by then was not served in time."""
    records = [record("a", 2, 1, 0), record("a", 5, 1, 0, arrival_s=4), record("a", 1, 1, 0, arrival_s=9.5)]
    afterwards = record("a", 1, 1, 0, arrival_s=1000)
    for run in (make_run(*records), make_run(*records, afterwards)):
        summary = summarize(run, num_replicas=1, ttft_limit_s=2)
        assert (summary.goodput_rps, summary.served_rps) == (0.1, 0.2)


def test_what_was_measured_besides() -> None:
    """Sums over all samples: 4 + 6 blocks held, of which 2 + 3 distinct. Three decisions in 6 ms."""
    samples = (CacheSample(1, 4, 2), CacheSample(2, 6, 3))
    run = make_run(*[record("a", 1, 1, 0)] * 3, cache_samples=samples, deciding_s=0.006)
    summary = summarize(run, num_replicas=1)
    assert (summary.copies, summary.decisions_per_s) == (2, 500)


def test_work_in_windows() -> None:
    """By the time of the first token. A peak of one replica in each window, though both did as much in all."""
    records = [record("a", 1, 30, 0), record("b", 9, 20, 10), record("b", 5, 50, 30, arrival_s=14)]
    run = make_run(*records)
    assert in_windows(records, num_replicas=2, window_s=10) == (WorkWindow(0, 30, 20), WorkWindow(10, 20, 10))
    summary = summarize(run, num_replicas=2, window_s=10)
    assert (summary.computed_imbalance, summary.window_imbalance) == (1, 50 / 30)


def test_quantiles_are_from_the_least_to_the_most() -> None:
    """101 of them, also of one request."""
    many = ttft_quantiles_s([record("a", ttft_s, 1, 0) for ttft_s in range(201)])
    assert many == pytest.approx(range(0, 201, 2))
    assert ttft_quantiles_s([record("a", 3, 1, 0)]) == (3,) * 101


def test_of_no_requests_there_is_no_rate() -> None:
    """Rather than a wrong one."""
    assert math.isnan(hit_rate([]))
    assert math.isnan(mean_ttft_s([]))


def test_a_window_has_its_start_and_not_its_end() -> None:
    """So that windows can follow each other."""
    run = make_run(*(record("a", 1, 1, 0, arrival_s=second) for second in range(4)))
    assert [each.arrival_s for each in run.arrived_within(1, 3)] == [1, 2]
    assert run.agreement == 1
