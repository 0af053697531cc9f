"""Routers' books against the truth."""

from loadtests.replay.agenda import Agenda
from loadtests.replay.processes import ReplicaProcess
from loadtests.replay.reservation_check import ReservationCheck
from router import ReplicaId, RequestId
from tests.loadtests.replay.builders import make_engine, make_route_request, make_small_router, make_trace_request


def test_drift_is_what_the_router_counts_beside_the_truth() -> None:
    """Two prompts of 17 tokens are there; the router knows one of them, and later one of 33 that is nowhere."""
    replica = ReplicaProcess(ReplicaId("replica-0"), make_engine(), Agenda(), lambda _batch: None)
    for name in ("known", "unknown"):
        replica.submit(RequestId(name), make_trace_request(len(name)))
    router = make_small_router()
    router.choose(make_route_request("known", make_trace_request(len("known"))), now=0)
    assert ReservationCheck(settle_s=1).sample(router, [replica], now=0).drift_tokens == 17
    router.choose(make_route_request("nowhere", make_trace_request(1, 2)), now=0)
    assert ReservationCheck(settle_s=1).sample(router, [replica], now=0).drift_tokens == 16


def test_what_is_booked_wrongly_counts_once_news_had_time_to_travel() -> None:
    """A request that is missing, one that is over, one that is booked rightly; news may take one second."""
    books, router = ReservationCheck(settle_s=1), make_small_router()
    for name in ("right", "over"):
        router.choose(make_route_request(name, make_trace_request(1)), now=0)
    for name in ("right", "over", "missing"):
        books.sent(RequestId(name), now=0)
    books.finished(RequestId("over"), now=5)
    assert [books.sample(router, [], now=now).num_wrong for now in (0.5, 2, 5.5, 7)] == [0, 1, 1, 2]
    assert books.num_outstanding == 2
