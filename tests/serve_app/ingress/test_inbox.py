"""What a router makes of the messages it gets."""

import logging
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import EngineLoad, Exclusion, Replica, ReplicaId, RequestId, Router, TokenHash
from serve_app.ingress.inbox import MAX_REASONS, Inbox
from serve_app.ingress.snapshot import replica_snapshots
from serve_app.messages import batches
from serve_app.messages.receipts import (
    Arrived,
    BatchAnswer,
    EngineState,
    Finished,
    Prefilled,
    Receipt,
    Status,
    Warmed,
)
from serve_app.parity.verdicts import Verdicts
from tests.builders import make_request, make_router


def make_inbox() -> Inbox:
    """An inbox whose records and samples no one wants."""
    return Inbox(lambda *_: None, lambda *_: None)


def unjudged() -> Verdicts:
    """Before any self-test."""
    return Verdicts(lambda *_: None)


def status(*outstanding: str, is_serving: bool = True) -> Status:
    """A heartbeat."""
    return Status(
        outstanding={RequestId(each): 0 for each in outstanding},
        is_serving=is_serving,
        prompt_tokens=100,
        cached_tokens=40,
        uncounted_tokens={},
        looked_up_tokens=100,
        hit_tokens=40,
        engine=None,
    )


@pytest.fixture
def router() -> Router:
    """A router with one replica, and one request on its way there."""
    router = make_router(num_replicas=1)
    router.choose(make_request("a", 1, 2), now=0)
    return router


def batch(router: Router, number: int, *receipts: Receipt) -> bytes:
    """A batch from the router's first replica."""
    return batches.encode(router.cluster.replicas[0].replica_id, number, receipts)


def load_of(router: Router) -> tuple[int, int, int]:
    """Pending tokens, waiting and running requests there."""
    load = router.cluster.load_of(router.cluster.replicas[0])
    return load.pending_tokens, load.num_waiting, load.num_running


def test_receipts_move_a_request_from_waiting_to_running_to_over(router: Router) -> None:
    """As the replica sees it."""
    inbox = make_inbox()
    assert load_of(router) == (9, 1, 0)
    inbox.on_receipts(batch(router, 1, Arrived(RequestId("a"))), router, now=0)
    inbox.on_receipts(batch(router, 2, Prefilled(RequestId("a"), 9, 0)), router, now=0)
    assert load_of(router) == (0, 0, 1)
    inbox.on_receipts(batch(router, 3, Finished(RequestId("a"))), router, now=0)
    assert load_of(router) == (0, 0, 0)


def test_an_arrival_is_as_late_as_its_replica_says(router: Router) -> None:
    """What it waited there is not the news' own time; an older replica waits for nothing, and says nothing of it."""
    inbox = make_inbox()
    inbox.on_receipts(batch(router, 1, Arrived(RequestId("a"), waited_s=0.25)), router, now=0.5)
    assert router.cluster.lateness.delay_s == pytest.approx(0.02 * 0.25)
    older = msgspec.msgpack.encode({"type": "arrived", "request_id": "b"})
    assert msgspec.msgpack.decode(older, type=Arrived) == Arrived(RequestId("b"), waited_s=0)


def test_a_lost_end_is_made_up_for_by_the_next_heartbeat(router: Router) -> None:
    """Its batch was dropped."""
    inbox = make_inbox()
    inbox.on_receipts(batch(router, 1, Arrived(RequestId("a"))), router, now=0)
    inbox.on_receipts(batch(router, 3, status()), router, now=0)
    assert load_of(router) == (0, 0, 0)


def test_a_sampled_requests_token_hash_is_handed_on_with_its_replica(router: Router) -> None:
    """Whoever keyed it; a receipt without one is nothing to compare."""
    taken = list[tuple[str, str, int]]()
    inbox = Inbox(lambda *_: None, lambda *hashed: taken.append(hashed))
    receipts = [Prefilled(RequestId("a"), 9, 0, TokenHash(7)), Prefilled(RequestId("b"), 9, 0)]
    inbox.on_receipts(batch(router, 1, *receipts), router, now=0)
    assert taken == [(router.cluster.replicas[0].replica_id, "a", 7)]


def test_an_overtaken_heartbeat_does_not_end_what_came_after_it(router: Router) -> None:
    """It was written before the request arrived."""
    inbox = make_inbox()
    inbox.on_receipts(batch(router, 2, Arrived(RequestId("a"))), router, now=0)
    inbox.on_receipts(batch(router, 1, status()), router, now=0)
    assert load_of(router) == (9, 1, 0)


def test_a_replica_that_cannot_serve_is_out_until_it_can(router: Router) -> None:
    """Also when later batches carry no status."""
    inbox = make_inbox()
    replica_id = router.cluster.replicas[0].replica_id
    inbox.on_receipts(batch(router, 1, status(is_serving=False)), router, now=0)
    inbox.on_receipts(batch(router, 2, Arrived(RequestId("a"))), router, now=0)
    assert router.health.exclusion(replica_id, now=0) is Exclusion.NOT_SERVING
    inbox.on_receipts(batch(router, 3, status()), router, now=0)
    assert router.health.exclusion(replica_id, now=0) is None


def test_what_is_refused_is_counted_and_logged_once(router: Router, caplog: pytest.LogCaptureFixture) -> None:
    """By its reason; changes nothing else."""
    inbox = make_inbox()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            inbox.on_receipts(b"\xc1", router, now=0)
            inbox.on_reservations(b"\xc1", router, now=0)
            inbox.on_states(b"\xc1", router, now=0)
    assert inbox.reason_to_refused == {"not a batch of messages": 9}
    assert len(caplog.records) == 1
    assert load_of(router) == (9, 1, 0)


def test_reasons_are_bounded(router: Router, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a sender writes, and so are the lines about them."""
    inbox = make_inbox()
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            payload = batches.msgspec.msgpack.encode({"sender": "r", "number": 1, "protocol": number + 2, "items": []})
            inbox.on_receipts(payload, router, now=0)
    assert len(inbox.reason_to_refused) == len(caplog.records) == MAX_REASONS + 1
    assert sum(inbox.reason_to_refused.values()) == 100


def test_peers_reservations_and_states_are_booked() -> None:
    """Once, however often they come."""
    peer, joining, inbox = make_router(num_replicas=1), make_router(num_replicas=1), make_inbox()
    _, reservation = peer.choose(make_request("a", 1, 2), now=0)
    _, later = peer.choose(make_request("b", 1, 2), now=0)
    state = peer.export(peer.cluster.replicas[0].replica_id, now=0)
    for _ in range(2):
        inbox.on_reservations(batches.encode("peer", 1, [reservation]), joining, now=0)
        inbox.on_states(batches.encode("peer", 0, [state]), joining, now=0)
        inbox.on_reservations(batches.encode("peer", 2, [later]), joining, now=0)
    assert load_of(joining) == load_of(peer)


def test_what_replicas_said_is_forgotten_with_them(router: Router) -> None:
    """Ids never come again, so nothing may stay."""
    inbox = make_inbox()
    inbox.on_receipts(batch(router, 1, status()), router, now=0)
    inbox.keep_only([])
    assert inbox.replica_to_status == {}
    inbox.on_receipts(batch(router, 1, status()), router, now=0)  # a first batch again
    assert len(inbox.replica_to_status) == 1


@given(seed=st.integers(0, 2**32), loss=st.floats(0, 1), num_requests=st.integers(1, 20))
def test_no_loss_repetition_or_disorder_leaves_a_trace(seed: int, loss: float, num_requests: int) -> None:
    """The law of the account: one heartbeat that gets through when all should have arrived, and nothing is booked."""
    rng, router, inbox = Random(seed), make_router(num_replicas=3, ttl_s=60), make_inbox()
    routed = [router.choose(make_request(str(n), n % 5, n), now=0).decision for n in range(num_requests)]
    payloads = []
    for number, decision in enumerate(routed):
        kinds = [
            Arrived(decision.request_id),
            Prefilled(decision.request_id, decision.num_prompt_tokens, 0),
            Finished(decision.request_id),
            status(),
        ]
        payloads += [batches.encode(decision.replica_id, 4 * number + k, [kind]) for k, kind in enumerate(kinds)]
    arriving = [each for each in payloads if rng.random() >= loss]
    arriving += rng.choices(payloads, k=5)
    rng.shuffle(arriving)
    for payload in arriving:
        inbox.on_receipts(payload, router, now=0)
        router.check_integrity()
    for replica in router.cluster.replicas:
        inbox.on_receipts(batches.encode(replica.replica_id, 10**6, [status()]), router, now=10)
    assert router.cluster.load.num_reservations == 0
    assert all(router.cluster.load_of(replica).pending_tokens == 0 for replica in router.cluster.replicas)


def test_the_snapshot_has_load_health_and_the_engines_numbers(router: Router) -> None:
    """For operators, tests and the doctor."""
    inbox = make_inbox()
    (replica,) = router.cluster.replicas
    before = replica_snapshots(router, inbox, unjudged(), now=0)[replica.replica_id]
    assert (before.heard_s_ago, before.engine, before.excluded) == (None, None, None)
    assert before.parity == "unknown"
    inbox.on_receipts(batch(router, 1, status("a", is_serving=False)), router, now=1)
    after = replica_snapshots(router, inbox, unjudged(), now=1.5)[replica.replica_id]
    assert (after.pending_tokens, after.waiting, after.running, after.rank) == (9, 1, 0, 0)
    assert (after.heard_s_ago, after.excluded) == (0.5, "not_serving")
    assert after.engine is not None
    assert (after.engine.prompt_tokens, after.engine.cached_tokens, after.engine.kv_use) == (100, 40, None)


def test_a_replica_hears_whether_it_is_known(router: Router) -> None:
    """In the answer to its receipts; and what it warmed by itself is believed."""
    inbox = make_inbox()
    prompt = make_request("b", 7, 8)
    assert inbox.on_receipts(batch(router, 1, Warmed(prompt.block_hashes)), router, now=0) is BatchAnswer.KNOWN
    decision = router.choose(prompt, now=0).decision
    assert decision.believed_cached_tokens == 8
    assert inbox.on_receipts(batches.encode("unknown", 1, [status()]), router, now=0) is BatchAnswer.UNKNOWN
    assert inbox.on_receipts(b"no batch", router, now=0) is BatchAnswer.UNDECIDED


def test_the_engines_numbers_reach_the_core_in_tokens(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of its memory. Overtaken heartbeats say nothing, nor those without numbers, nor of unknown replicas."""
    told: list[tuple[ReplicaId, EngineLoad]] = []
    monkeypatch.setattr(router, "on_engine_load", lambda replica_id, load: told.append((replica_id, load)))
    inbox = make_inbox()
    (replica,) = router.cluster.replicas
    used = msgspec.structs.replace(status(), engine=EngineState(waiting=2, running=3, kv_use=0.25, preempted=4))
    idle = msgspec.structs.replace(status(), engine=EngineState(waiting=0, running=0, kv_use=0.0))
    inbox.on_receipts(batch(router, 2, used), router, now=5)
    inbox.on_receipts(batch(router, 1, idle), router, now=6)
    inbox.on_receipts(batch(router, 3, status()), router, now=0)
    inbox.on_receipts(batches.encode("unknown", 1, [used]), router, now=0)
    load = EngineLoad(2, 3, kv_used_tokens=replica.kv_capacity_tokens // 4, num_preempted=4)
    assert told == [(replica.replica_id, load)]


def test_the_answers_tokens_reach_the_core(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the end of the request; None from a replica that did not know, as one of an earlier version."""
    told: dict[RequestId, int | None] = {}

    def on_finished(request_id: RequestId, *, now: float, answer_tokens: int | None = None) -> None:
        del now
        told[request_id] = answer_tokens

    monkeypatch.setattr(router, "on_finished", on_finished)
    inbox = make_inbox()
    inbox.on_receipts(batch(router, 1, Finished(RequestId("a"), 48), Finished(RequestId("b"))), router, now=0)
    assert told == {"a": 48, "b": None}


def test_a_receipt_of_reloaded_tokens_proves_the_second_tier() -> None:
    """The core learns what came from where."""
    router = make_router()
    router.set_replicas([Replica(ReplicaId("tiered"), 0, 400, 4000)])
    router.choose(make_request("a", 1, 2), now=0)
    assert not router.cluster.tiers.is_proven(ReplicaId("tiered"))
    make_inbox().on_receipts(batch(router, 1, Prefilled(RequestId("a"), 9, 8, external_cached_tokens=4)), router, now=0)
    assert router.cluster.tiers.is_proven(ReplicaId("tiered"))
