"""A plan against a cluster in this process."""

import httpx
import pytest

from loadtests.bench.cluster import CellTarget
from loadtests.bench.experiment import BenchExperiment, CapacityError, capacity
from loadtests.bench.plan import BenchCell, BenchPlan
from loadtests.bench.records import Capacity, SentTurn
from loadtests.bench.routings import BASELINE
from loadtests.client.answers import Outcome
from tests.benchmarks.fake_server import FakeServer
from tests.loadtests.bench.builders import plan, record


class FakeCluster:
    """Notes what it is prepared for."""

    def __init__(self) -> None:
        self.server = FakeServer(step_s=0.0)
        self.prepared: list[str] = []

    def prepare(self, routing: str) -> CellTarget:
        """As the real one."""
        self.prepared.append(routing)
        return CellTarget("http://server", "demo", num_replicas=2)

    def client(self, _: str) -> httpx.AsyncClient:
        """For every address."""
        return self.server.client()


def experiment(some: BenchPlan, cluster: FakeCluster) -> BenchExperiment:
    """Of the fake cluster."""
    return BenchExperiment(some, cluster, client_of=cluster.client)


def test_capacity_is_measured_by_round_robin() -> None:
    """With users enough for every replica, and the cells' sessions to make a rate of sessions of it."""
    cluster, done = FakeCluster(), []
    found = experiment(plan(), cluster).measure_capacity("one_shot", on_done=done.append)
    assert cluster.prepared == [BASELINE]
    assert found.num_users == 16
    assert len(done) >= 16
    assert found.requests_per_s > 0
    assert found.turns_per_session == 1.0


def test_capacity_is_that_of_what_was_served_within_the_time() -> None:
    """2 requests in 2 seconds; the third ended later."""
    records = [
        record(due_s=0.0, end_to_end_s=1.0, cached_tokens=20),
        record(due_s=1.0, end_to_end_s=1.0),
        record(due_s=1.5, end_to_end_s=1.0),
    ]
    found = capacity("chat", records, seconds=2.0, num_users=1, turns_per_session=2.0)
    assert found == Capacity("chat", 1, requests_per_s=1.0, uncached_tokens_per_s=90.0, turns_per_session=2.0)


def test_a_load_is_a_rate_of_sessions() -> None:
    """Requests a second over requests a session."""
    found = Capacity("chat", 1, requests_per_s=10.0, uncached_tokens_per_s=0.0, turns_per_session=4.0)
    assert found.sessions_per_s(0.8) == pytest.approx(2.0)


@pytest.mark.parametrize("records", [[], [record(outcome=Outcome.NO_ANSWER, status=None, ttft_s=None)]])
def test_a_capacity_with_failures_is_none(records: list[SentTurn]) -> None:
    """It would set every load wrong."""
    with pytest.raises(CapacityError, match="for chat cannot be measured"):
        capacity("chat", records, seconds=2.0, num_users=1, turns_per_session=2.0)


def test_a_cell_is_measured_from_a_prepared_cluster() -> None:
    """All its requests, until the last answer."""
    cluster, some = FakeCluster(), plan(num_requests=5)
    cell = BenchCell("one_shot", 0.5, "power_of_two", 1)
    fast = Capacity("one_shot", 16, requests_per_s=1000.0, uncached_tokens_per_s=1e6, turns_per_session=1.0)
    found = experiment(some, cluster).measure(cell, fast, on_done=lambda _: None)
    assert cluster.prepared == ["power_of_two"]
    assert {each.session for each in found.records} == {each.session_id for each in some.sessions("one_shot", 1)}
    assert found.num_replicas == 2
    assert found.duration_s == max(each.due_s + each.end_to_end_s for each in found.records)
    assert not found.began_cold, "the fake server's caches never are"
