"""Engines that empty their caches without a word to the routers."""

import asyncio

import pytest

from loadtests.live import Server
from loadtests.stale_beliefs import late, measure, wrong
from serve_app.local_cluster import Run
from serve_app.running_application import RunningApplication


@pytest.mark.timeout(600)
def test_predictions_are_soon_right_again(run: Run, application: RunningApplication) -> None:
    """By what engines reuse: two misses at each of two replicas tell of all that was used before."""
    answers = asyncio.run(measure(Server(run, application), 40, 100, wait_s=0, seed=2))
    assert wrong(answers), "the routers knew of it"
    stale = [number for number in late(answers) if answers[number - 1].believed > answers[number - 1].cached]
    assert len(stale) <= 2, answers
    assert any(each.cached for each in answers)
