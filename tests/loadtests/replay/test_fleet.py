"""Replicas that come and go."""

import pytest

from loadtests.replay.agenda import Agenda
from loadtests.replay.fleet import Fleet, ToldCapacity
from loadtests.replay.processes import ReceiptBatch
from router import ReplicaId, RequestId
from serve_app.messages.receipts import Finished, Status
from tests.loadtests.replay.builders import BLOCK_SIZE, OPTIONS, make_trace_request

A, B = RequestId("a"), RequestId("b")


class Story:
    """Two replicas that beat every second, and what they said."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        self.batches: list[tuple[float, ReceiptBatch]] = []
        self.fleet = Fleet(OPTIONS, block_size=BLOCK_SIZE, agenda=self.agenda, heartbeat_s=1, send=self.note)
        for rank in (0, 1):
            self.fleet.join(rank, first_beat_s=1)

    def note(self, batch: ReceiptBatch) -> None:
        """Keep what was said."""
        self.batches.append((self.agenda.now_s, batch))

    def said_after(self, time_s: float, replica: str) -> int:
        """How often."""
        return sum(now > time_s and batch.sender == replica for now, batch in self.batches)

    def submit(self, request_id: RequestId, replica: str, *, output_tokens: int = 2) -> None:
        """To a replica that is there."""
        process = self.fleet.find(ReplicaId(replica))
        assert process is not None
        process.submit(request_id, make_trace_request(1, 2, output_tokens=output_tokens))


def test_a_crash_ends_everything_at_once() -> None:
    """Its requests break off in the order in which they came, nothing is said any more, and it is found no more."""
    story = Story()
    story.submit(A, "replica-1")
    story.submit(B, "replica-1")
    assert story.fleet.crash(1) == (A, B)
    story.agenda.run_until(5)
    assert story.said_after(0, "replica-1") == 0
    assert story.said_after(0, "replica-0") == 5
    assert story.fleet.find(ReplicaId("replica-1")) is None
    assert [member.rank for member in story.fleet.members] == [0]


def test_a_replica_that_leaves_finishes_what_it_has() -> None:
    """Also what still comes to it until the routers know; then it goes, and is silent."""
    story = Story()
    story.submit(A, "replica-1", output_tokens=200)  # about 2.4 s
    story.fleet.leave(1, known_after_s=1.5)
    assert [member.rank for member in story.fleet.members] == [0]
    story.agenda.run_until(1.2)
    story.submit(B, "replica-1", output_tokens=250)
    story.agenda.run_until(10)
    assert story.fleet.find(ReplicaId("replica-1")) is None
    last_s, last = [
        (time_s, receipt)
        for time_s, batch in story.batches
        for receipt in batch.items
        if batch.sender == "replica-1" and not isinstance(receipt, Status)
    ][-1]
    assert (last, 4 < last_s < 5) == (Finished(B, 250), True)
    assert story.said_after(5, "replica-1") == 0


def test_an_idle_replica_leaves_as_soon_as_routers_know() -> None:
    """Not before: a request may come."""
    story = Story()
    story.fleet.leave(1, known_after_s=2.5)
    story.agenda.run_until(2.4)
    assert story.fleet.find(ReplicaId("replica-1")) is not None
    story.agenda.run_until(3.1)
    assert story.fleet.find(ReplicaId("replica-1")) is None


def test_a_replacement_has_the_rank_and_another_id() -> None:
    """And an empty cache; what the old one computed stays counted."""
    story = Story()
    story.submit(A, "replica-0")
    story.agenda.run_until(0.5)
    story.fleet.crash(0)
    story.fleet.join(0, first_beat_s=1)
    assert [(member.rank, member.replica_id) for member in story.fleet.members] == [(1, "replica-1"), (0, "replica-2")]
    replacement = story.fleet.find(ReplicaId("replica-2"))
    assert replacement is not None
    assert len(replacement.engine.cache) == 0
    assert story.fleet.computed_tokens() == {"replica-0": 33, "replica-1": 0, "replica-2": 0}


def test_nobody_goes_who_is_not_there_or_is_the_last() -> None:
    """The message names the rank."""
    story = Story()
    with pytest.raises(ValueError, match="no replica of rank 7"):
        story.fleet.leave(7, known_after_s=0)
    story.fleet.crash(0)
    with pytest.raises(ValueError, match="the last replica, of rank 1"):
        story.fleet.crash(1)


def test_a_rank_may_have_an_engine_of_its_own() -> None:
    """Also its replacement has it; routers are told each one's capacity, or the one that they are all told."""
    small = OPTIONS.model_copy(update={"kv_capacity_tokens": 5 * BLOCK_SIZE})
    for told_kv_tokens, expected in ((None, 5 * BLOCK_SIZE), (7, 7)):
        agenda = Agenda()
        fleet = Fleet(
            OPTIONS,
            block_size=BLOCK_SIZE,
            agenda=agenda,
            heartbeat_s=1,
            send=lambda _: None,
            told=ToldCapacity(told_kv_tokens),
            rank_to_options={1: small},
        )
        for rank in (0, 1):
            fleet.join(rank, first_beat_s=1)
        fleet.crash(1)
        fleet.join(1, first_beat_s=1)
        told = {member.rank: member.kv_capacity_tokens for member in fleet.members}
        assert told == {0: told_kv_tokens or OPTIONS.kv_capacity_tokens, 1: expected}
        capacities = [process.engine.cache.capacity_blocks for process in fleet.processes()]
        assert capacities == [OPTIONS.kv_capacity_tokens // BLOCK_SIZE - 1, 4]


@pytest.mark.parametrize(("told_tokens", "expected"), [(None, 96), (0, 0), (48, 48)])
def test_routers_are_told_both_tiers(told_tokens: int | None, expected: int) -> None:
    """Apart, each by its own size, or as they are to be told of the second one."""
    fleet = Fleet(
        OPTIONS.model_copy(update={"host_capacity_tokens": 96}),
        block_size=BLOCK_SIZE,
        agenda=Agenda(),
        heartbeat_s=1,
        send=lambda _: None,
        told=ToldCapacity(host_tokens=told_tokens),
    )
    fleet.join(0, first_beat_s=1)
    (member,) = fleet.members
    assert (member.kv_capacity_tokens, member.host_capacity_tokens) == (OPTIONS.kv_capacity_tokens, expected)
