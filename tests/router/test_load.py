"""Load accounting: every reservation has exactly one release."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import ReplicaId, RequestId, Reservation
from router.load import LoadBook
from tests.builders import make_request

ONE, TWO = ReplicaId("one"), ReplicaId("two")


def make_book(*, ttl_s: float = 60) -> LoadBook:
    """Two replicas, nothing outstanding."""
    book = LoadBook(half_life_s=10, answer_tokens=5, arrival_ttl_s=ttl_s / 6, ttl_s=ttl_s)
    book.add_replica(ONE)
    book.add_replica(TWO)
    return book


def make_reservation(request_id: str, replica_id: ReplicaId = ONE, *, pending_tokens: int = 80) -> Reservation:
    """A prompt of 100 tokens of which 20 are cached, unless said otherwise."""
    request = make_request(request_id, num_prompt_tokens=100)
    return Reservation(request, replica_id, num_held_blocks=0, is_computed=True, pending_tokens=pending_tokens)


def test_a_request_is_waiting_then_running_then_gone() -> None:
    """The three states, with the tokens that each counts."""
    book = make_book()
    assert book.reserve(make_reservation("a"), now=0)
    assert (book[ONE].pending_tokens, book[ONE].num_waiting, book[ONE].num_running) == (80, 1, 0)
    assert book.prefilled(RequestId("a"), prompt_tokens=100, now=1) == make_reservation("a")
    assert (book[ONE].pending_tokens, book[ONE].num_waiting, book[ONE].num_running) == (0, 0, 1)
    assert book.finished(RequestId("a"), now=0) is None
    assert book[ONE].num_requests == 0


def test_a_list_of_prompts_is_released_in_proportion() -> None:
    """Two engine requests of 25 and 75 tokens share one reservation of 80 pending tokens."""
    book = make_book()
    book.reserve(make_reservation("a"), now=0)
    assert book.prefilled(RequestId("a"), prompt_tokens=25, now=1) is None
    assert (book[ONE].pending_tokens, book[ONE].num_waiting) == (60, 1)
    assert book.prefilled(RequestId("a"), prompt_tokens=75, now=1) is not None
    assert (book[ONE].pending_tokens, book[ONE].num_waiting) == (0, 0)


def test_a_request_that_never_ran_gives_its_reservation_back() -> None:
    """So that the router can take back the belief it had put into it."""
    book = make_book()
    book.reserve(make_reservation("a"), now=0)
    assert book.finished(RequestId("a"), now=0) == make_reservation("a")
    assert book.num_reservations == 0


def test_a_reservation_overtaken_by_its_end_is_not_booked() -> None:
    """A peer's broadcast may arrive after the replica's receipt; booked then, it would count until it expires."""
    book = make_book()
    assert book.finished(RequestId("a"), now=0) is None
    assert not book.reserve(make_reservation("a"), now=0)
    assert book[ONE].num_requests == 0


def test_ended_requests_are_forgotten_when_their_reservation_cannot_come_any_more() -> None:
    """After the 10 s in which a request must arrive: what is kept is bounded by the rate of requests."""
    book = make_book(ttl_s=60)
    for number in range(100):
        book.finished(RequestId(str(number)), now=number)
    assert book.num_remembered == 10
    assert not book.reserve(make_reservation("90"), now=99)
    assert book.reserve(make_reservation("89"), now=99)


def test_a_reservation_is_booked_once() -> None:
    """A router hears its own broadcast too."""
    book = make_book()
    assert book.reserve(make_reservation("a"), now=0)
    assert not book.reserve(make_reservation("a"), now=1)
    assert book[ONE].pending_tokens == 80


def test_an_unknown_replica_is_ignored() -> None:
    """A peer may know a replica a moment earlier than we do."""
    assert not make_book().reserve(make_reservation("a", ReplicaId("new")), now=0)


def test_silence_expires_and_a_sign_of_life_renews() -> None:
    """60 s from the decision, or from the last sign of life."""
    book = make_book(ttl_s=60)
    for request_id in ("lost", "silent", "alive"):
        book.reserve(make_reservation(request_id), now=0)
    book.arrived(RequestId("silent"), now=5)
    book.arrived(RequestId("alive"), now=5)
    assert book.expired(now=59) == []
    assert book.expired(now=60) == ["lost"]
    book.finished(RequestId("lost"), now=60)
    book.prefilled(RequestId("alive"), prompt_tokens=100, now=62)
    assert book.expired(now=65) == ["silent"]
    assert book.expired(now=122) == ["silent", "alive"]
    book.check_integrity()


def test_a_replicas_list_ends_what_it_had_or_should_have() -> None:
    """What was sent less than 10 s ago may still be on its way; other replicas' requests are not its business."""
    book = make_book(ttl_s=60)
    book.reserve(make_reservation("had"), now=0)
    book.arrived(RequestId("had"), now=0)
    book.reserve(make_reservation("due"), now=0)
    book.reserve(make_reservation("listed"), now=0)
    book.reserve(make_reservation("elsewhere", TWO), now=0)
    book.reserve(make_reservation("on its way"), now=1)
    assert sorted(book.lost(ONE, [RequestId("listed")], now=10)) == ["due", "had"]
    assert book.lost(ReplicaId("unknown"), [], now=10) == []
    assert "listed" not in book.expired(now=60)
    book.check_integrity()


def test_a_removed_replica_takes_its_reservations_with_it() -> None:
    """A late receipt for them changes nothing."""
    book = make_book()
    book.reserve(make_reservation("a", ONE), now=0)
    book.reserve(make_reservation("b", TWO), now=0)
    book.remove_replica(ONE)
    assert book.finished(RequestId("a"), now=0) is None
    assert book.num_reservations == 1
    book.check_integrity()


def test_recent_work_fades_by_half() -> None:
    """80 pending tokens and 5 for the answer, halved after a half-life of 10 s, whether or not it ended meanwhile."""
    book = make_book()
    book.fade(now=0)
    book.reserve(make_reservation("a"), now=0)
    book.finished(RequestId("a"), now=0)
    assert book[ONE].recent_tokens == 85
    book.fade(now=10)
    assert book[ONE].recent_tokens == 42.5
    assert book[TWO].recent_tokens == 0


def test_work_fades_from_when_it_was_booked() -> None:
    """A peer's reservation comes between two decisions of ours: what it adds has not faded yet."""
    book = make_book()
    book.fade(now=0)
    book.reserve(make_reservation("a"), now=100)
    book.fade(now=110)
    assert book[ONE].recent_tokens == 42.5


request_ids = st.sampled_from("abcdef").map(RequestId)


class LoadBookMachine(RuleBasedStateMachine):
    """Receipts in any order, lost, repeated or late: the totals stay the sum of what is booked."""

    def __init__(self) -> None:
        super().__init__()
        self.book = make_book(ttl_s=5)
        self.now = 0.0

    @rule(request_id=request_ids, replica_id=st.sampled_from([ONE, TWO]), pending_tokens=st.integers(0, 100))
    def reserve(self, request_id: str, replica_id: ReplicaId, pending_tokens: int) -> None:
        """A decision, ours or a peer's."""
        self.book.reserve(make_reservation(request_id, replica_id, pending_tokens=pending_tokens), now=self.now)

    @rule(request_id=request_ids, prompt_tokens=st.integers(0, 200))
    def prefilled(self, request_id: RequestId, prompt_tokens: int) -> None:
        """A first token."""
        self.book.prefilled(request_id, prompt_tokens=prompt_tokens, now=self.now)

    @rule(request_id=request_ids)
    def arrived(self, request_id: RequestId) -> None:
        """The replica has it."""
        self.book.arrived(request_id, now=self.now)

    @rule(request_id=request_ids)
    def withdraw(self, request_id: RequestId) -> None:
        """It is elsewhere."""
        self.book.withdraw(request_id)

    @rule(replica_id=st.sampled_from([ONE, TWO]), outstanding=st.sets(request_ids))
    def list_outstanding(self, replica_id: ReplicaId, outstanding: set[RequestId]) -> None:
        """A replica's own list; what it lost is over."""
        for request_id in self.book.lost(replica_id, outstanding, now=self.now):
            assert request_id not in outstanding
            self.book.finished(request_id, now=self.now)

    @rule(request_id=request_ids)
    def finished(self, request_id: RequestId) -> None:
        """An end."""
        self.book.finished(request_id, now=self.now)

    @rule(seconds=st.floats(0, 4))
    def pass_time(self, seconds: float) -> None:
        """Time goes on and the silent are released."""
        self.now += seconds
        for request_id in self.book.expired(now=self.now):
            self.book.finished(request_id, now=self.now)

    @rule()
    def replace_replica(self) -> None:
        """A replica dies and another takes its id's place."""
        self.book.remove_replica(TWO)
        self.book.add_replica(TWO)

    @invariant()
    def is_sound(self) -> None:
        """Totals equal the reservations, and nothing is negative."""
        self.book.check_integrity()
        assert self.book[ONE].pending_tokens >= 0

    def teardown(self) -> None:
        """In the end, with everything expired, nothing is outstanding."""
        for request_id in self.book.expired(now=self.now + 100):
            self.book.finished(request_id, now=self.now)
        for replica_id in (ONE, TWO):
            assert self.book[replica_id].num_requests == 0
            assert self.book[replica_id].pending_tokens == 0


TestLoadBookMachine = LoadBookMachine.TestCase
TestLoadBookMachine.settings = settings(max_examples=60, stateful_step_count=30)
