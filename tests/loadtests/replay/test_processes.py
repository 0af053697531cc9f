"""The receiving side of a router, and the sending side of a replica."""

from loadtests.replay.agenda import Agenda
from loadtests.replay.processes import ReplicaProcess, RouterProcess
from loadtests.replay.receipts import Arrived, Batch, Finished, Prefilled
from router import ReplicaId, RequestId
from tests.loadtests.replay.builders import make_engine, make_route_request, make_small_router, make_trace_request

REPLICA = ReplicaId("replica-0")
A, B = RequestId("a"), RequestId("b")


def make_process(*request_ids: RequestId) -> RouterProcess:
    """A router that sent some requests to its only replica."""
    process = RouterProcess("router-0", make_small_router())
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
        Batch(REPLICA, 3, (Prefilled(A, 17, 0), Finished(A))),
        Batch(REPLICA, 4, outstanding={B: 0}),
        Batch(REPLICA, 5, (Prefilled(B, 17, 0),)),
        Batch(REPLICA, 6, outstanding={B: 17}),
        Batch(REPLICA, 7, (Finished(B),)),
    ]
