"""Engines that empty their caches without a word to the routers."""

import asyncio

import pytest

from benchmarks.harness.running_server import Server
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from tests.emptied_caches import late, measure, wrong


@pytest.mark.timeout(600)
def test_predictions_are_soon_right_again(run: LocalRun, application: RunningApplication) -> None:
    """By what engines reuse: two misses at each of two replicas tell of all that was used before."""
    answers = asyncio.run(measure(Server(run, application), 40, 100, wait_s=0, seed=2))
    assert wrong(answers), "the routers knew of it"
    stale = [number for number in late(answers) if answers[number - 1].believed > answers[number - 1].cached]
    assert len(stale) <= 2, answers
    assert any(each.cached for each in answers)
