"""Messages between routers and replicas, also of different versions."""

import math

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import BlockHash, ReplicaId, RequestId, Reservation, TokenHash
from serve_app.messages import batches
from serve_app.messages.batches import PROTOCOL, Reader, RefusedError
from serve_app.messages.kv_updates import KvRemoved, KvUpdate
from serve_app.messages.receipts import (
    Arrived,
    BatchAnswer,
    EngineState,
    Finished,
    Prefilled,
    ProbeResult,
    Receipt,
    SelfTestReport,
    Status,
    Warmed,
)
from serve_app.replica.kv_events.merge import encode_with_receipts
from tests.builders import make_request, make_router

request_ids = st.text(max_size=40).map(RequestId)
tokens = st.integers(0, 2**40)
engines = st.builds(EngineState, waiting=tokens, running=tokens, kv_use=st.floats(0, 1))
hashes = st.integers(0, 2**64 - 1).map(TokenHash)
reports = st.builds(
    SelfTestReport,
    nonce=st.text(max_size=5),
    model=st.text(max_size=5),
    adapter=st.text(max_size=5),
    block_size=st.integers(1, 999),
    period_s=st.floats(0.1, 999),
    probes_hash=hashes,
    results=st.lists(st.none() | st.builds(ProbeResult, tokens, hashes, tokens), max_size=8).map(tuple),
    was_crowded=st.booleans(),
)
receipts = st.one_of(
    st.builds(Arrived, request_ids),
    st.builds(Prefilled, request_ids, tokens, tokens, st.none() | hashes),
    st.builds(Finished, request_ids),
    st.builds(
        Status,
        outstanding=st.dictionaries(request_ids, st.integers(0, 2**31), max_size=3),
        is_serving=st.booleans(),
        prompt_tokens=tokens,
        cached_tokens=tokens,
        uncounted_tokens=st.dictionaries(st.text(max_size=5), tokens, max_size=2),
        looked_up_tokens=tokens,
        hit_tokens=tokens,
        engine=st.none() | engines,
        own_tokens=tokens,
        self_test=st.none() | reports,
    ),
)


def heartbeat(*, kv_use: float) -> Status:
    """The heartbeat of an idle replica."""
    engine = EngineState(waiting=0, running=0, kv_use=kv_use)
    return Status(
        {},
        is_serving=True,
        prompt_tokens=0,
        cached_tokens=0,
        uncounted_tokens={},
        looked_up_tokens=0,
        hit_tokens=0,
        engine=engine,
    )


@given(st.lists(receipts, max_size=5), st.integers(0, 2**40))
def test_receipts_arrive_as_they_were_sent(items: list[Receipt], number: int) -> None:
    """With sender and number."""
    batch = Reader[Receipt](Receipt).read(batches.encode("replica", number, items))
    assert (batch.sender, batch.number, list(batch.items)) == ("replica", number, items)


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 2**40), st.text())
def test_reservations_arrive_as_they_were_sent(prompt: list[int], pending_tokens: int, session_id: str) -> None:
    """64-bit hashes included, and of a session nothing but its key."""
    request = make_request("a", *prompt, session_id=session_id, num_prompts=2, num_choices=10_000)
    reservation = Reservation(
        request, ReplicaId("r"), num_held_blocks=1, is_computed=True, pending_tokens=pending_tokens
    )
    (received,) = Reader[Reservation](Reservation).read(batches.encode("router", 1, [reservation])).items
    assert received == reservation


def test_a_reservation_of_an_older_router_is_read() -> None:
    """Before session keys, requests had a `session_id`, always empty; and before sequences were counted, each was one.
    During an upgrade both kinds of routers run.
    """
    request = make_request("a", 1)
    old = {
        "request": {
            "request_id": "a",
            "model": "m",
            "tenant": "t",
            "num_prompt_tokens": 5,
            "block_hashes": request.block_hashes,
            "session_id": "",
        },
        "replica_id": "r",
        "num_held_blocks": 0,
        "is_computed": True,
        "pending_tokens": 5,
    }
    (received,) = Reader[Reservation](Reservation).read(batches.encode("router", 1, [old])).items
    assert received.request == request


def test_a_routers_state_arrives_as_it_was_sent() -> None:
    """Belief and load."""
    from router import ReplicaState

    router = make_router(num_replicas=1)
    for number in range(3):
        router.choose(make_request(str(number), 1, number, num_choices=number + 1), now=0)
    state = router.export(router.cluster.replicas[0].replica_id, now=0)
    (received,) = Reader[ReplicaState](ReplicaState).read(batches.encode("router", 0, [state])).items
    assert received == state


def test_kv_updates_travel_beside_receipts() -> None:
    """Merged; a batch of a replica that sends none has none."""
    updates = [KvUpdate(number, (KvRemoved((BlockHash(number),)),), num_steps=1) for number in (1, 2)]
    arrived = Arrived(RequestId("a"))
    reader: Reader[Receipt] = Reader(Receipt)
    batch = reader.read(encode_with_receipts("replica", 3, [updates[0], arrived, updates[1]]))
    assert list(batch.items) == [arrived]
    assert list(batch.kv_updates) == [KvUpdate(2, (KvRemoved((BlockHash(1), BlockHash(2))),), num_steps=2)]
    assert list(reader.read(batches.encode("replica", 4, [arrived])).kv_updates) == []


def test_a_field_that_a_later_version_added_is_passed_over() -> None:
    """In the batch, and in an item."""
    payload = msgspec.msgpack.encode(
        {
            "sender": "replica",
            "number": 1,
            "protocol": PROTOCOL,
            "items": [{"type": "arrived", "request_id": "a", "later": 1}],
            "later": [2],
        }
    )
    assert Reader[Receipt](Receipt).read(payload).items == [Arrived(RequestId("a"))]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            msgspec.msgpack.encode({"sender": "r", "number": 1, "protocol": 99, "items": "whatever"}),
            "protocol 99, this process speaks 1: routers and replicas run different versions; finish the upgrade",
        ),
        (
            msgspec.msgpack.encode({"sender": "r", "number": 1, "protocol": 1, "items": [{"type": "unheard of"}]}),
            "does not fit protocol 1",
        ),
        (msgspec.msgpack.encode({"sender": "r"}), "protocol 0"),
        (b"\xc1", "not a batch of messages"),
        (b"", "not a batch of messages"),
        (b"\x81\xa6sender\xa2\xff\xfe", "not a batch of messages"),
        (b"\x81\xa5items" + b"\x91" * 100_000, "not a batch of messages"),
        (
            msgspec.msgpack.encode(
                {"sender": "r", "number": 1, "protocol": 1, "items": [{"type": "arrived", "request_id": "ab"}]}
            ).replace(b"ab", b"\xff\xfe"),
            "does not fit protocol 1",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused_in_words(payload: bytes, expected: str) -> None:
    """Naming both protocols where that is the cause."""
    with pytest.raises(RefusedError, match=expected):
        Reader[Receipt](Receipt).read(payload)


@pytest.mark.parametrize(
    "receipt",
    [
        Warmed((BlockHash(-1),)),
        Prefilled(RequestId("a"), 1, 0, ttft_s=math.nan),
        Prefilled(RequestId("a"), 1, 0, ttft_s=math.inf),
        heartbeat(kv_use=math.nan),
        heartbeat(kv_use=math.inf),
        heartbeat(kv_use=-0.5),
    ],
)
def test_numbers_that_none_can_be_are_refused(receipt: Receipt) -> None:
    """Before they are in a sum."""
    with pytest.raises(RefusedError, match="does not fit protocol 1"):
        Reader[Receipt](Receipt).read(batches.encode("replica", 1, [receipt]))


@pytest.mark.parametrize(
    ("answer", "json"),
    [
        (BatchAnswer.KNOWN, b"true"),
        (BatchAnswer.UNKNOWN, b"false"),
        (BatchAnswer.UNDECIDED, b"null"),
        (BatchAnswer.WANTS_SNAPSHOT, b'"snapshot"'),
    ],
)
def test_a_batch_is_answered_in_json_that_earlier_versions_read(answer: BatchAnswer, json: bytes) -> None:
    """And what a later version may answer counts as an answer to a replica that it knows."""
    assert orjson.dumps(answer) == json
    assert BatchAnswer(orjson.loads(json)) is answer
    assert BatchAnswer("something new") is BatchAnswer.KNOWN


def test_the_self_test_has_the_name_of_earlier_versions_on_the_wire() -> None:
    """Both versions run side by side during an upgrade."""
    payload = batches.encode("replica", 1, [heartbeat(kv_use=0.5)])
    assert "canary" in msgspec.msgpack.decode(payload)["items"][0]


def test_a_sender_does_not_choose_how_long_its_fault_is() -> None:
    """It is logged, and kept."""
    payload = msgspec.msgpack.encode({"sender": "r", "number": 1, "protocol": 1, "items": [{"type": "x" * 100_000}]})
    with pytest.raises(RefusedError) as refused:
        Reader[Receipt](Receipt).read(payload)
    assert len(str(refused.value)) < 300
