"""The receiving side of a router, and the sending side of a replica."""

import pytest

from loadtests.replay.agenda import Agenda
from loadtests.replay.processes import ReceiptBatch, ReplicaProcess, RouterProcess
from router import EngineLoad, ReplicaId, RequestId
from serve_app.messages.batches import Batch, encode
from serve_app.messages.receipts import Arrived, EngineState, Finished, Prefilled, Receipt, Status
from tests.loadtests.replay.builders import (
    OPTIONS,
    make_engine,
    make_route_request,
    make_small_router,
    make_trace_request,
)

REPLICA = ReplicaId("replica-0")
A, B = RequestId("a"), RequestId("b")
KV_TOKENS = OPTIONS.kv_capacity_tokens


def make_process(*request_ids: RequestId) -> RouterProcess:
    """A router that sent some requests to its only replica."""
    process = RouterProcess("router-0", make_small_router(), [].append)
    for request_id in request_ids:
        process.router.choose(make_route_request(request_id, make_trace_request(1)), now=0)
    return process


def hear(process: RouterProcess, number: int, *receipts: Receipt, now: float = 1) -> None:
    """The replica's batch of that number."""
    process.on_receipts(encode(REPLICA, number, receipts), now=now)


def make_status(outstanding: dict[RequestId, int], engine: EngineState | None = None) -> Status:
    """A simulated replica's heartbeat, which has no sums."""
    return Status(outstanding, True, 0, 0, {}, 0, 0, engine)  # noqa: FBT003  in the order of its fields


def test_an_overtaken_list_of_requests_is_ignored() -> None:
    """Batch 2 lists A only, because B arrived later; it comes after batch 3, which says so, and after batch 1."""
    process = make_process(A, B)
    hear(process, 3, Arrived(B))
    hear(process, 1, Arrived(A))
    hear(process, 2, make_status({A: 0}))
    assert process.router.cluster.load.num_reservations == 2
    hear(process, 4, make_status({A: 0}))
    assert process.router.cluster.load.outstanding(B) is None
    assert process.router.cluster.load.outstanding(A) is not None


def test_receipts_are_applied_whenever_they_come() -> None:
    """The end before the first token, and both overtaken by a later batch."""
    process = make_process(A, B)
    hear(process, 9)
    hear(process, 3, Finished(A))
    hear(process, 2, Arrived(B), Prefilled(B, 17, 0), Prefilled(A, 17, 0))
    load = process.router.cluster.load
    assert (load.num_reservations, load[REPLICA].num_running, load[REPLICA].pending_tokens) == (1, 1, 0)


def test_every_batch_is_a_word_of_the_replica() -> None:
    """Which is how the router knows that it is there."""
    process = make_process()
    hear(process, 1, now=5)
    assert process.router.health.heard_s_ago(REPLICA, now=6) == 1


def test_a_replica_tells_how_each_request_goes() -> None:
    """Its batches are numbered, and a heartbeat lists what is there."""
    agenda, batches = Agenda(), list[ReceiptBatch]()
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
        Batch(REPLICA, 4, (make_status({B: 0}, EngineState(0, 1, 17 / KV_TOKENS)),)),
        Batch(REPLICA, 5, (Prefilled(B, 17, 0),)),
        Batch(REPLICA, 6, (make_status({B: 17}, EngineState(0, 1, 18 / KV_TOKENS)),)),
        Batch(REPLICA, 7, (Finished(B, 2),)),
    ]


def test_heartbeats_carry_the_engine_as_it_is_then() -> None:
    """Steps alike are planned in one go, but a heartbeat within them tells what has been decoded by then.

    The prompt's 17 tokens take 27 ms, and further tokens 11 ms each: at 100 ms six are over and the seventh is counted,
    as an engine counts what it has scheduled.
    """
    agenda, batches = Agenda(), list[ReceiptBatch]()
    replica = ReplicaProcess(REPLICA, make_engine(), agenda, batches.append)
    replica.submit(A, make_trace_request(1, output_tokens=20))
    agenda.at(0.100, replica.beat)
    agenda.run_until(1)
    replica.beat()
    states = [receipt.engine for batch in batches for receipt in batch.items if isinstance(receipt, Status)]
    assert states == [EngineState(0, 1, (17 + 7) / KV_TOKENS), EngineState(0, 0, 0)]


def test_a_router_takes_the_newest_numbers_of_an_engine() -> None:
    """An overtaken heartbeat changes nothing."""
    process = make_process()
    hear(process, 2, make_status({}, EngineState(0, 2, 200 / KV_TOKENS, 1)))
    hear(process, 1, make_status({}, EngineState(1, 1, 100 / KV_TOKENS, 0)))
    assert process.router.cluster.load[REPLICA].engine == EngineLoad(0, 2, 200, 1)


@pytest.mark.parametrize(("arrival_s", "start_s"), [(0.05, 0.060), (0.0711, 0.082), (0.999, 0.999)])
def test_a_request_starts_with_the_next_step(arrival_s: float, start_s: float) -> None:
    """The first one's prompt takes 27 ms, and its 19 further tokens steps of 11 ms: to 38, 49, 60, 71 ms and so on.

    Those steps are alike and need no looking at, but the second request waits for the end of the one under way.
    """
    agenda, first_tokens_s = Agenda(), dict[RequestId, float]()

    def note(batch: ReceiptBatch) -> None:
        first_tokens_s.update((each.request_id, agenda.now_s) for each in batch.items if isinstance(each, Prefilled))

    replica = ReplicaProcess(REPLICA, make_engine(), agenda, note)
    replica.submit(A, make_trace_request(1, output_tokens=20))
    agenda.at(arrival_s, lambda: replica.submit(B, make_trace_request(2, output_tokens=1)))
    agenda.run_until(2)
    num_decoding = 1 if arrival_s < 0.2 else 0
    assert first_tokens_s[B] == pytest.approx(start_s + 0.010 + 0.017 + 0.001 * num_decoding)
