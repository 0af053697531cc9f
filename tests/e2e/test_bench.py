"""The bench's cells through the real path: policies in turn, caches empty before each."""

from collections.abc import Iterator

import pytest

from loadtests.bench.cluster import CellTarget
from loadtests.bench.experiment import BenchExperiment
from loadtests.bench.numbers import numbers
from loadtests.bench.plan import BenchCell
from loadtests.bench.records import Capacity
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from tests.loadtests.bench.builders import plan

RATE = Capacity("chat", 1, requests_per_s=4.0, uncached_tokens_per_s=0.0, turns_per_session=4.0)


class SharedServer:
    """The tests' server as a bench's cluster."""

    def __init__(self, run: LocalRun, application: RunningApplication) -> None:
        self._run = run
        self._application = application

    def prepare(self, routing: str) -> CellTarget:
        """As the bench's own cluster prepares our policies."""
        self._application.set_policy(routing)
        self._application.reset_caches()
        return CellTarget(self._run.url, self._run.model, num_replicas=2)


@pytest.fixture
def server(run: LocalRun, application: RunningApplication) -> Iterator[SharedServer]:
    """Routes as before when it is over."""
    before = application.policy()
    yield SharedServer(run, application)
    application.set_policy(before)


def test_cells_of_two_policies(server: SharedServer) -> None:
    """Everything is answered, from empty caches at first; the same sessions, with reuse by their later turns."""
    some = plan(num_requests=12, repetitions=1)
    experiment = BenchExperiment(some, server)
    results = [
        experiment.measure(BenchCell("chat", 1.0, routing, 0), RATE, on_done=lambda _: None)
        for routing in some.routings
    ]
    sent = [sorted((each.session, each.turn, each.prompt_tokens) for each in result.records) for result in results]
    assert sent[0] == sent[1]
    for result in results:
        found = numbers(result, ttft_slo_s=60.0)
        assert result.began_cold
        assert found["good_share"] == 1.0
        assert found["hit_rate"] > 0.0
        assert all(each.replica for each in result.records)
