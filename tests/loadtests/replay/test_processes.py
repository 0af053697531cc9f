"""The receiving side of a router, and the sending side of a replica."""

import pytest

from loadtests.replay.agenda import Agenda
from loadtests.replay.processes import ReplicaProcess, RouterProcess
from loadtests.replay.receipts import Arrived, Batch, Finished, Prefilled
from router import EngineLoad, ReplicaId, RequestId
from tests.loadtests.replay.builders import make_engine, make_route_request, make_small_router, make_trace_request

REPLICA = ReplicaId("replica-0")
A, B = RequestId("a"), RequestId("b")


def make_process(*request_ids: RequestId) -> RouterProcess:
    """A router that sent some requests to its only replica."""
    process = RouterProcess("router-0", make_small_router(), [].append)
    for request_id in request_ids:
        process.router.choose(make_route_request(request_id, make_trace_request(1)), now=0)
    return process


def test_an_overtaken_list_of_requests_is_ignored() -> None:
    """Batch 2 lists A only, because B arrived later; it comes after batch 3, which says so, and after batch 1."""
    process = make_process(A, B)
    process.on_batch(Batch(REPLICA, 3, (Arrived(B),)), now=1)
    process.on_batch(Batch(REPLICA, 1, (Arrived(A),)), now=1)
    process.on_batch(Batch(REPLICA, 2, outstanding={A: 0}), now=1)
    assert process.router.cluster.load.num_reservations == 2
    process.on_batch(Batch(REPLICA, 4, outstanding={A: 0}), now=1)
    assert process.router.cluster.load.reservation(B) is None
    assert process.router.cluster.load.reservation(A) is not None


def test_receipts_are_applied_whenever_they_come() -> None:
    """The end before the first token, and both overtaken by a later batch."""
    process = make_process(A, B)
    process.on_batch(Batch(REPLICA, 9), now=1)
    process.on_batch(Batch(REPLICA, 3, (Finished(A),)), now=1)
    process.on_batch(Batch(REPLICA, 2, (Arrived(B), Prefilled(B, 17, 0), Prefilled(A, 17, 0))), now=1)
    load = process.router.cluster.load
    assert (load.num_reservations, load[REPLICA].num_running, load[REPLICA].pending_tokens) == (1, 1, 0)


def test_every_batch_is_a_word_of_the_replica() -> None:
    """Which is how the router knows that it is there."""
    process = make_process()
    process.on_batch(Batch(REPLICA, 1), now=5)
    assert process.router.health.heard_s_ago(REPLICA, now=6) == 1


def test_a_replica_tells_how_each_request_goes() -> None:
    """Its batches are numbered, and a heartbeat lists what is there."""
    agenda, batches = Agenda(), list[Batch]()
    replica = ReplicaProcess(REPLICA, make_engine(), agenda, batches.append)
    replica.submit(A, make_trace_request(1, output_tokens=1))
    replica.submit(B, make_trace_request(2, output_tokens=2))
    agenda.step()
    replica.beat()
    agenda.step()
    replica.beat()
    agenda.run_until(9)
    assert batches == [
        Batch(REPLICA, 1, (Arrived(A),)),
        Batch(REPLICA, 2, (Arrived(B),)),
        Batch(REPLICA, 3, (Prefilled(A, 17, 0), Finished(A, 1))),
        Batch(REPLICA, 4, outstanding={B: 0}, engine=EngineLoad(0, 1, 17, 0)),
        Batch(REPLICA, 5, (Prefilled(B, 17, 0),)),
        Batch(REPLICA, 6, outstanding={B: 17}, engine=EngineLoad(0, 1, 18, 0)),
        Batch(REPLICA, 7, (Finished(B, 2),)),
    ]


def test_heartbeats_carry_the_engine_as_it_is_then() -> None:
    """Steps alike are planned in one go, but a heartbeat within them tells what has been decoded by then.

    The prompt's 17 tokens take 27 ms, and further tokens 11 ms each: at 100 ms six are over and the seventh is counted,
    as an engine counts what it has scheduled.
    """
    agenda, batches = Agenda(), list[Batch]()
    replica = ReplicaProcess(REPLICA, make_engine(), agenda, batches.append)
    replica.submit(A, make_trace_request(1, output_tokens=20))
    agenda.at(0.100, replica.beat)
    agenda.run_until(1)
    replica.beat()
    loads = [each.engine for each in batches if each.engine is not None]
    assert loads == [EngineLoad(0, 1, 17 + 7, 0), EngineLoad(0, 0, 0, 0)]


def test_a_router_takes_the_newest_numbers_of_an_engine() -> None:
    """An overtaken heartbeat changes nothing."""
    process = make_process()
    old, new = EngineLoad(1, 1, 100, 0), EngineLoad(0, 2, 200, 1)
    process.on_batch(Batch(REPLICA, 2, outstanding={}, engine=new), now=1)
    process.on_batch(Batch(REPLICA, 1, outstanding={}, engine=old), now=1)
    assert process.router.cluster.load[REPLICA].engine == new


@pytest.mark.parametrize(("arrival_s", "start_s"), [(0.05, 0.060), (0.0711, 0.082), (0.999, 0.999)])
def test_a_request_starts_with_the_next_step(arrival_s: float, start_s: float) -> None:
    """The first one's prompt takes 27 ms, and its 19 further tokens steps of 11 ms: to 38, 49, 60, 71 ms and so on.

    Those steps are alike and need no looking at, but the second request waits for the end of the one under way.
    """
    agenda, first_tokens_s = Agenda(), dict[RequestId, float]()

    def note(batch: Batch) -> None:
        first_tokens_s.update((each.request_id, agenda.now_s) for each in batch.receipts if isinstance(each, Prefilled))

    replica = ReplicaProcess(REPLICA, make_engine(), agenda, note)
    replica.submit(A, make_trace_request(1, output_tokens=20))
    agenda.at(arrival_s, lambda: replica.submit(B, make_trace_request(2, output_tokens=1)))
    agenda.run_until(2)
    num_decoding = 1 if arrival_s < 0.2 else 0
    assert first_tokens_s[B] == pytest.approx(start_s + 0.010 + 0.017 + 0.001 * num_decoding)
