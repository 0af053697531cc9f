"""Engines that empty their caches without a word to the routers."""

import asyncio

import pytest

from loadtests.live import Server
from loadtests.stale_beliefs import MAX_REQUESTS, measure, wrong
from serve_app.local_cluster import Run
from serve_app.running_application import RunningApplication


@pytest.mark.timeout(600)
def test_predictions_are_soon_right_again(run: Run, application: RunningApplication) -> None:
    """By what engines reuse: a few misses tell of all that was used before."""
    answers = asyncio.run(measure(Server(run, application), 40, 100, wait_s=0, seed=2))
    missed = wrong(answers)
    assert missed, "the routers knew of it"
    assert missed[-1] <= MAX_REQUESTS
    assert any(each.cached for each in answers)
