"""Load accounting: every reservation has exactly one release."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import EngineLoad, EngineModel, ReplicaId, RequestId, Reservation
from router.load.reservations import Reservations
from router.load.table import LoadChange
from tests.builders import MODEL, make_request

ONE, TWO = ReplicaId("one"), ReplicaId("two")


def make_reservations(*, ttl_s: float = 60, model: EngineModel = MODEL) -> Reservations:
    """Two replicas, nothing outstanding."""
    reservations = Reservations(model=model, half_life_s=10, answer_tokens=5, arrival_ttl_s=ttl_s / 6, ttl_s=ttl_s)
    reservations.add_replica(ONE)
    reservations.add_replica(TWO)
    return reservations


def make_reservation(
    request_id: str,
    replica_id: ReplicaId = ONE,
    *,
    pending_tokens: int = 80,
    num_prompts: int = 1,
    num_choices: int = 1,
) -> Reservation:
    """A prompt of 100 tokens of which 20 are cached, unless said otherwise."""
    request = make_request(request_id, num_prompt_tokens=100, num_prompts=num_prompts, num_choices=num_choices)
    return Reservation(request, replica_id, num_held_blocks=0, is_computed=True, pending_tokens=pending_tokens)


def test_a_request_is_waiting_then_running_then_gone() -> None:
    """The three states, with the tokens and the seconds that each counts, at 1,000 prompt tokens a second."""
    reservations = make_reservations()
    load = reservations[ONE]
    assert reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    assert (load.pending_tokens, load.num_waiting, load.num_running) == (80, 1, 0)
    assert (load.pending_s, load.waiting_answer_tokens) == (0.08, 40)
    assert (load.running_answer_tokens, load.running_prompt_tokens) == (0, 0)
    computed = reservations.prefilled(RequestId("a"), prompt_tokens=100, now=1)
    assert computed is not None
    assert computed.reservation == make_reservation("a")
    assert (load.pending_tokens, load.num_waiting, load.num_running) == (0, 0, 1)
    assert (load.pending_s, load.waiting_answer_tokens) == (0, 0)
    assert (load.running_answer_tokens, load.running_prompt_tokens, load.context_tokens) == (40, 100, 120)
    ended = reservations.finished(RequestId("a"), now=0)
    assert ended is not None
    assert not ended.is_waiting
    assert (load.num_requests, load.running_answer_tokens, load.running_prompt_tokens) == (0, 0, 0)


def test_attention_makes_the_end_of_a_prompt_longer_than_its_start() -> None:
    """80 tokens after 20 cached ones: each of them looks at 20 + 80 / 2 others on average."""
    reservations = make_reservations(model=replace(MODEL, attention_s=0.000_01))
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    assert reservations[ONE].pending_s == pytest.approx(0.08 + 0.000_01 * 80 * 60)


def test_what_remains_is_less_what_was_computed_since() -> None:
    """The first of two has waited for 30 ms of its 80; nothing more than it can be done, however late it is."""
    reservations = make_reservations()
    assert (reservations.remaining_tokens(ONE, now=0), reservations.remaining_s(ONE, now=0)) == (0, 0)
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    reservations.reserve(make_reservation("b", pending_tokens=20), answer_tokens=40, now=0)
    for now, expected_tokens in ((0, 100), (0.03, 70), (0.08, 20), (9, 20)):
        assert reservations.remaining_tokens(ONE, now=now) == pytest.approx(expected_tokens)
        assert reservations.remaining_s(ONE, now=now) == pytest.approx(expected_tokens / 1000)


def test_late_news_are_allowed_for() -> None:
    """News take 200 ms: until they come, the second prompt is computed as well, and no replica looks slower."""
    late_s = 0.2
    reservations = make_reservations()
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0, late_s=late_s)
    reservations.reserve(make_reservation("b"), answer_tokens=40, now=0, late_s=late_s)
    for now, expected_tokens in ((0, 160), (0.05, 110), (0.1, 60), (0.2, 0)):
        assert reservations.remaining_tokens(ONE, now=now, late_s=late_s) == pytest.approx(expected_tokens)
        assert reservations.remaining_s(ONE, now=now, late_s=late_s) == pytest.approx(expected_tokens / 1000)
    reservations.prefilled(RequestId("a"), prompt_tokens=100, now=0.08 + late_s)
    told_at_once = make_reservations()
    told_at_once.reserve(make_reservation("a"), answer_tokens=40, now=0)
    told_at_once.prefilled(RequestId("a"), prompt_tokens=100, now=0.08)
    assert reservations.speed(ONE) == pytest.approx(told_at_once.speed(ONE))


def test_a_replica_that_was_idle_unheard_is_not_ahead() -> None:
    """The second prompt was sent when the first was done, of which the news came later: it begins when it was sent."""
    reservations = make_reservations()
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0, late_s=1)
    reservations.reserve(make_reservation("b"), answer_tokens=40, now=0.9, late_s=1)
    reservations.prefilled(RequestId("a"), prompt_tokens=100, now=1.08)
    speed = reservations.speed(ONE)
    assert reservations.remaining_s(ONE, now=0.9, late_s=1) == pytest.approx(0.08 / speed)
    assert reservations.remaining_tokens(ONE, now=0.95, late_s=1) == pytest.approx(80 - 50 * speed)


def test_the_longer_ones_behind_the_first_are_overtaken() -> None:
    """A prompt of 30 ms overtakes 50 of 80 ms, and none of 20 ms. The first prompt is being computed: none overtakes
    it.
    """
    reservations = make_reservations()
    for name, pending_tokens, expected_s in (("first", 90, 0), ("long", 80, 0.05), ("short", 20, 0.05)):
        reservations.reserve(make_reservation(name, pending_tokens=pending_tokens), answer_tokens=40, now=0)
        assert reservations.overtaken_s(ONE, prefill_s=0.03) == pytest.approx(expected_s)
    assert reservations.overtaken_s(ONE, prefill_s=0.01) == pytest.approx(0.07 + 0.01)
    assert reservations.overtaken_s(TWO, prefill_s=0.01) == 0
    reservations.prefilled(RequestId("first"), prompt_tokens=100, now=0.09)
    assert reservations.overtaken_s(ONE, prefill_s=0.01) == pytest.approx(0.01 / reservations.speed(ONE))
    reservations.finished(RequestId("short"), now=0.1)
    assert reservations.overtaken_s(ONE, prefill_s=0.01) == 0


def test_what_is_all_cached_takes_no_time() -> None:
    """Nothing of it is pending, so none of it can be done."""
    reservations = make_reservations()
    reservations.reserve(make_reservation("a", pending_tokens=0), answer_tokens=40, now=0)
    assert (reservations.remaining_tokens(ONE, now=5), reservations.remaining_s(ONE, now=5)) == (0, 0)
    reservations.check_integrity()


def test_a_slow_replica_takes_longer_for_the_same() -> None:
    """Prompts of 80 ms, each with a step and a half of 10 ms, took 190 ms: half the speed, and twice the time."""
    reservations = make_reservations()
    for number in range(500):
        reservations.reserve(make_reservation(str(number)), answer_tokens=40, now=number)
        reservations.prefilled(RequestId(str(number)), prompt_tokens=100, now=number + 0.19)
        reservations.finished(RequestId(str(number)), now=number + 0.5)
    # 50 prefills count, and one second as fast as the model before them.
    assert reservations.speed(ONE) == pytest.approx((1 + 50 * 0.095) / (1 + 50 * 0.19), rel=1e-3)
    assert reservations.speed(TWO) == 1
    reservations.reserve(make_reservation("next"), answer_tokens=40, now=1000)
    assert reservations.remaining_s(ONE, now=1000) == pytest.approx(0.08 / reservations.speed(ONE))


def test_running_answers_are_no_sign_of_a_slow_replica() -> None:
    """A prefill's step waits for those that are decoded: 1 ms a sequence, and 1 us a token of their contexts."""
    reservations = make_reservations()
    for number in range(10):
        reservations.reserve(make_reservation(f"running-{number}"), answer_tokens=40, now=0)
        reservations.prefilled(RequestId(f"running-{number}"), prompt_tokens=100, now=0.01 * number)
    before = reservations.export_progress(ONE, now=1)
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=1)
    reservations.prefilled(RequestId("a"), prompt_tokens=100, now=1.2)
    after = reservations.export_progress(ONE, now=1.2)
    step_s = 0.01 + 10 * 0.001 + 10 * 120 * 0.000_001
    assert after.work_s == pytest.approx(0.98 * before.work_s + 0.08 + 1.5 * step_s)


def test_how_often_requests_come_is_read_off_what_fades() -> None:
    """Two a second for 20 half-lives, after which as much fades as comes."""
    reservations = make_reservations()
    for number in range(400):
        reservations.reserve(make_reservation(str(number)), answer_tokens=40, now=number / 2)
        reservations.finished(RequestId(str(number)), now=number / 2)
    assert reservations.requests_per_s == pytest.approx(2, rel=0.05)


def test_the_first_sign_of_life_tells_how_late_it_is() -> None:
    """The time since the booking is returned once; the second sign is no news any more."""
    reservations = make_reservations()
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=1)
    assert reservations.arrived(RequestId("a"), now=1.25) == 0.25
    assert reservations.arrived(RequestId("a"), now=2) is None
    assert reservations.arrived(RequestId("unknown"), now=2) is None


def test_memory_is_what_the_engine_told_and_what_was_computed_since() -> None:
    """Without the engine's word, it is the contexts that are decoded; in both cases with the tokens that are still to
    come.
    """
    reservations = make_reservations()
    for request_id in ("runs", "waits"):
        reservations.reserve(make_reservation(request_id), answer_tokens=40, now=0)
    reservations.prefilled(RequestId("runs"), prompt_tokens=100, now=1)
    to_come = 80 + 40 + 20  # the prompt and answer that wait, and half of the one that runs
    assert reservations[ONE].kv_tokens == (100 + 20) + to_come
    reservations.set_engine(ONE, EngineLoad(num_waiting=1, num_running=1, kv_used_tokens=500, num_preempted=0))
    assert reservations[ONE].kv_tokens == 500 + to_come
    reservations.prefilled(RequestId("waits"), prompt_tokens=100, now=2)
    assert reservations[ONE].kv_tokens == 500 + 80 + (20 + 20)
    reservations.set_engine(ONE, EngineLoad(num_waiting=0, num_running=2, kv_used_tokens=580, num_preempted=0))
    assert reservations[ONE].kv_tokens == 580 + (20 + 20)


def test_memory_without_the_engines_word_does_not_grow_with_what_is_over() -> None:
    """A thousand prompts have come and gone."""
    reservations = make_reservations()
    for number in range(1000):
        reservations.reserve(make_reservation(str(number)), answer_tokens=40, now=number)
        reservations.prefilled(RequestId(str(number)), prompt_tokens=100, now=number)
        reservations.finished(RequestId(str(number)), now=number)
    assert reservations[ONE].kv_tokens == 0


def test_a_request_of_a_peers_is_booked_as_far_as_it_has_come() -> None:
    """One of its four prompts is computed, and it expects the answers that the peer expects."""
    peer, reservations = make_reservations(), make_reservations()
    peer.reserve(make_reservation("a", num_prompts=4), answer_tokens=40, now=0)
    peer.prefilled(RequestId("a"), prompt_tokens=25, now=1)
    (booked,) = peer.export(ONE)
    assert booked.answer_tokens == 40
    for _ in range(2):
        reservations.adopt(booked, answer_tokens=40, now=1)
    assert (reservations[ONE].pending_tokens, reservations[ONE].num_waiting, reservations[ONE].num_running) == (
        60,
        3,
        1,
    )
    assert (reservations[ONE].pending_s, reservations[ONE].waiting_answer_tokens) == (pytest.approx(0.06), 120)
    reservations.check_integrity()


def test_a_list_of_prompts_is_released_in_proportion() -> None:
    """Two sequences of 25 and 75 tokens share one reservation of 80 pending tokens; the short one is the first."""
    reservations = make_reservations()
    load = reservations[ONE]
    reservations.reserve(make_reservation("a", num_prompts=2), answer_tokens=40, now=0)
    assert (load.pending_tokens, load.num_waiting, load.num_running, load.waiting_answer_tokens) == (80, 2, 0, 80)
    assert reservations.prefilled(RequestId("a"), prompt_tokens=50, now=1) is None
    assert (load.pending_tokens, load.num_waiting, load.num_running) == (40, 1, 1)
    assert (load.waiting_answer_tokens, load.running_answer_tokens, load.running_prompt_tokens) == (40, 40, 50)
    assert reservations.prefilled(RequestId("a"), prompt_tokens=50, now=1) is not None
    assert (load.pending_tokens, load.num_waiting, load.num_running) == (0, 0, 2)
    assert (load.running_answer_tokens, load.running_prompt_tokens) == (80, 100)


def test_the_answers_to_one_prompt_begin_together() -> None:
    """It is computed once for all ten, each of which then reads it in every step."""
    reservations = make_reservations()
    load = reservations[ONE]
    reservations.reserve(make_reservation("a", num_choices=10), answer_tokens=40, now=0)
    assert (load.pending_tokens, load.num_waiting, load.waiting_answer_tokens) == (80, 10, 400)
    assert reservations.prefilled(RequestId("a"), prompt_tokens=100, now=1) is not None
    assert (load.pending_tokens, load.num_waiting, load.num_running, load.num_requests) == (0, 0, 10, 1)
    assert (load.running_answer_tokens, load.running_prompt_tokens) == (400, 1000)
    assert reservations.prefilled(RequestId("a"), prompt_tokens=100, now=1) is None
    assert load.num_running == 10


def test_ten_answers_are_as_much_as_ten_requests() -> None:
    """Whose prompt is cached but for what the first of them computes: waiting, running and when they are over."""
    one, ten = make_reservations(), make_reservations()
    one.reserve(make_reservation("0", num_choices=10), answer_tokens=40, now=0)
    for number in range(10):
        pending_tokens = 0 if number else 80
        ten.reserve(make_reservation(str(number), pending_tokens=pending_tokens), answer_tokens=40, now=0)

    def loads() -> list[dict[str, float]]:
        names = [*LoadChange._fields, "num_sequences", "context_tokens", "kv_tokens", "recent_tokens"]
        names.remove("num_requests")
        return [{name: getattr(reservations[ONE], name) for name in names} for reservations in (one, ten)]

    assert loads()[0] == loads()[1]
    for step in ("prefilled", "finished"):
        for number in range(10):
            for reservations in (one, ten):
                arguments = {"prompt_tokens": 100} if step == "prefilled" else {}
                getattr(reservations, step)(RequestId(str(number)), **arguments, now=1)
        assert loads()[0] == loads()[1]


def test_a_prompt_of_unknown_length_is_computed_with_its_first_token() -> None:
    """It was taken to be longer than it is, as a body full of spaces may be; nothing of it is left pending."""
    reservations = make_reservations()
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    assert reservations.prefilled(RequestId("a"), prompt_tokens=3, now=1) is not None
    assert (reservations[ONE].pending_tokens, reservations[ONE].num_waiting, reservations[ONE].num_running) == (0, 0, 1)


def test_a_request_that_never_ran_gives_its_reservation_back() -> None:
    """It comes with its reservation, by which the router corrects its estimate."""
    reservations = make_reservations()
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    ended = reservations.finished(RequestId("a"), now=0)
    assert ended is not None
    assert (ended.reservation, ended.is_waiting) == (make_reservation("a"), True)
    assert reservations.num_reservations == 0


def test_a_reservation_overtaken_by_its_end_is_not_booked() -> None:
    """A peer's broadcast may arrive after the replica's receipt; booked then, it would count until it expires."""
    reservations = make_reservations()
    assert reservations.finished(RequestId("a"), now=0) is None
    assert not reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    assert reservations[ONE].num_requests == 0


def test_ended_requests_are_forgotten_when_their_reservation_cannot_come_any_more() -> None:
    """After the 10 s in which a request must arrive: what is kept is bounded by the rate of requests."""
    reservations = make_reservations(ttl_s=60)
    for number in range(100):
        reservations.finished(RequestId(str(number)), now=number)
    assert reservations.num_remembered == 10
    assert not reservations.reserve(make_reservation("90"), answer_tokens=40, now=99)
    assert reservations.reserve(make_reservation("89"), answer_tokens=40, now=99)


def test_a_reservation_is_booked_once() -> None:
    """A router hears its own broadcast too."""
    reservations = make_reservations()
    assert reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    assert not reservations.reserve(make_reservation("a"), answer_tokens=40, now=1)
    assert reservations[ONE].pending_tokens == 80


def test_an_unknown_replica_is_ignored() -> None:
    """A peer may know a replica a moment earlier than we do."""
    assert not make_reservations().reserve(make_reservation("a", ReplicaId("new")), answer_tokens=40, now=0)


def test_silence_expires_and_a_sign_of_life_renews() -> None:
    """60 s from the decision, or from the last sign of life."""
    reservations = make_reservations(ttl_s=60)
    for request_id in ("lost", "silent", "alive"):
        reservations.reserve(make_reservation(request_id), answer_tokens=40, now=0)
    reservations.arrived(RequestId("silent"), now=5)
    reservations.arrived(RequestId("alive"), now=5)
    assert reservations.expired(now=59) == []
    assert reservations.expired(now=60) == ["lost"]
    reservations.finished(RequestId("lost"), now=60)
    reservations.prefilled(RequestId("alive"), prompt_tokens=100, now=62)
    assert reservations.expired(now=65) == ["silent"]
    assert reservations.expired(now=122) == ["silent", "alive"]
    reservations.check_integrity()


def test_a_replicas_list_ends_what_it_had_or_should_have() -> None:
    """What was sent less than 10 s ago may still be on its way; other replicas' requests are not its business."""
    reservations = make_reservations(ttl_s=60)
    reservations.reserve(make_reservation("had"), answer_tokens=40, now=0)
    reservations.arrived(RequestId("had"), now=0)
    reservations.reserve(make_reservation("due"), answer_tokens=40, now=0)
    reservations.reserve(make_reservation("listed"), answer_tokens=40, now=0)
    reservations.reserve(make_reservation("elsewhere", TWO), answer_tokens=40, now=0)
    reservations.reserve(make_reservation("on its way"), answer_tokens=40, now=1)
    assert sorted(reservations.lost(ONE, [RequestId("listed")], now=10)) == ["due", "had"]
    assert reservations.lost(ReplicaId("unknown"), [], now=10) == []
    assert "listed" not in reservations.expired(now=60)
    reservations.check_integrity()


def test_a_removed_replica_takes_its_reservations_with_it() -> None:
    """A late receipt for them changes nothing."""
    reservations = make_reservations()
    reservations.reserve(make_reservation("a", ONE), answer_tokens=40, now=0)
    reservations.reserve(make_reservation("b", TWO), answer_tokens=40, now=0)
    reservations.remove_replica(ONE)
    assert reservations.finished(RequestId("a"), now=0) is None
    assert reservations.num_reservations == 1
    reservations.check_integrity()


def test_recent_work_fades_by_half() -> None:
    """80 pending tokens and 5 for the answer, halved after a half-life of 10 s, whether or not the request is over."""
    reservations = make_reservations()
    reservations.fade(now=0)
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=0)
    reservations.finished(RequestId("a"), now=0)
    assert reservations[ONE].recent_tokens == 85
    reservations.fade(now=10)
    assert reservations[ONE].recent_tokens == 42.5
    assert reservations[TWO].recent_tokens == 0


def test_work_fades_from_when_it_was_booked() -> None:
    """A peer's reservation comes between two decisions of ours: what it adds has not faded yet."""
    reservations = make_reservations()
    reservations.fade(now=0)
    reservations.reserve(make_reservation("a"), answer_tokens=40, now=100)
    reservations.fade(now=110)
    assert reservations[ONE].recent_tokens == 42.5


request_ids = st.sampled_from("abcdef").map(RequestId)
counts = st.integers(1, 300)
fates = st.sampled_from(["finishes", "is aborted", "expires", "goes elsewhere", "loses its replica"])


@given(requests=st.lists(st.tuples(counts, counts, fates, st.lists(st.integers(0, 200), max_size=5)), max_size=8))
def test_whatever_is_claimed_is_released(requests: list[tuple[int, int, str, list[int]]]) -> None:
    """The number of sequences, their progress and their ends do not matter."""
    reservations = make_reservations(ttl_s=60)
    claimed = 0
    for number, (num_prompts, num_choices, _, prefills) in enumerate(requests):
        replica_id = (ONE, TWO)[number % 2]
        reservation = make_reservation(str(number), replica_id, num_prompts=num_prompts, num_choices=num_choices)
        reservations.reserve(reservation, answer_tokens=40.1, now=0)
        claimed += num_prompts * num_choices
        for prompt_tokens in prefills:
            reservations.prefilled(RequestId(str(number)), prompt_tokens=prompt_tokens, now=0)
        assert reservations.total.num_sequences == claimed
        reservations.check_integrity()
    for number, (_, _, fate, _) in enumerate(requests):
        request_id = RequestId(str(number))
        if fate in {"finishes", "is aborted"}:
            reservations.finished(request_id, now=2)
        elif fate == "goes elsewhere":
            reservations.withdraw(request_id)
        elif fate == "loses its replica" and number % 2:
            reservations.remove_replica(TWO)
            reservations.add_replica(TWO)
        reservations.check_integrity()
    for request_id in reservations.expired(now=100):
        reservations.finished(request_id, now=100)
    for load in (reservations[ONE], reservations[TWO], reservations.total):
        assert all(getattr(load, name) == 0 for name in LoadChange._fields), load


class ReservationsMachine(RuleBasedStateMachine):
    """Receipts in any order, lost, repeated or late: the totals stay the sum of what is booked."""

    def __init__(self) -> None:
        super().__init__()
        self.reservations = make_reservations(ttl_s=5)
        self.now = 0.0

    @rule(
        request_id=request_ids,
        replica_id=st.sampled_from([ONE, TWO]),
        pending_tokens=st.integers(0, 100),
        answer_tokens=st.floats(0, 1e6),
        num_prompts=st.integers(1, 5),
        num_choices=st.integers(1, 5),
    )
    def reserve(
        self,
        request_id: str,
        replica_id: ReplicaId,
        pending_tokens: int,
        answer_tokens: float,
        num_prompts: int,
        num_choices: int,
    ) -> None:
        """A decision, ours or a peer's."""
        reservation = make_reservation(
            request_id, replica_id, pending_tokens=pending_tokens, num_prompts=num_prompts, num_choices=num_choices
        )
        self.reservations.reserve(reservation, answer_tokens=answer_tokens, now=self.now)

    @rule(request_id=request_ids, prompt_tokens=st.integers(0, 200))
    def prefilled(self, request_id: RequestId, prompt_tokens: int) -> None:
        """A first token."""
        self.reservations.prefilled(request_id, prompt_tokens=prompt_tokens, now=self.now)

    @rule(request_id=request_ids)
    def arrived(self, request_id: RequestId) -> None:
        """The replica has it."""
        self.reservations.arrived(request_id, now=self.now)

    @rule(request_id=request_ids)
    def withdraw(self, request_id: RequestId) -> None:
        """It is elsewhere."""
        self.reservations.withdraw(request_id)

    @rule(replica_id=st.sampled_from([ONE, TWO]), outstanding=st.sets(request_ids))
    def list_outstanding(self, replica_id: ReplicaId, outstanding: set[RequestId]) -> None:
        """A replica's own list; what it lost is over."""
        for request_id in self.reservations.lost(replica_id, outstanding, now=self.now):
            assert request_id not in outstanding
            self.reservations.finished(request_id, now=self.now)

    @rule(request_id=request_ids)
    def finished(self, request_id: RequestId) -> None:
        """An end."""
        self.reservations.finished(request_id, now=self.now)

    @rule(seconds=st.floats(0, 4))
    def pass_time(self, seconds: float) -> None:
        """Time goes on and the silent are released."""
        self.now += seconds
        for request_id in self.reservations.expired(now=self.now):
            self.reservations.finished(request_id, now=self.now)

    @rule(replica_id=st.sampled_from([ONE, TWO]), kv_used_tokens=st.integers(0, 1000))
    def tell(self, replica_id: ReplicaId, kv_used_tokens: int) -> None:
        """An engine's own numbers."""
        self.reservations.set_engine(replica_id, EngineLoad(0, 0, kv_used_tokens, 0))

    @rule()
    def join(self) -> None:
        """A router has booked the same as this one, once it knows what this one does."""
        joining = make_reservations(ttl_s=5)
        for replica_id in (ONE, TWO):
            for booked in self.reservations.export(replica_id):
                assert booked.answer_tokens is not None
                joining.adopt(booked, answer_tokens=booked.answer_tokens, now=self.now)
            ours, theirs = self.reservations[replica_id], joining[replica_id]
            for name in ("pending_tokens", "num_waiting", "num_running", "running_prompt_tokens"):
                assert getattr(ours, name) == getattr(theirs, name)
            for name in ("waiting_answer_tokens", "running_answer_tokens"):
                assert math.isclose(getattr(ours, name), getattr(theirs, name), rel_tol=1e-6, abs_tol=1e-6)
        joining.check_integrity()

    @rule()
    def replace_replica(self) -> None:
        """A replica dies and another takes its id's place."""
        self.reservations.remove_replica(TWO)
        self.reservations.add_replica(TWO)

    @invariant()
    def is_sound(self) -> None:
        """Totals equal the reservations, and nothing is negative."""
        self.reservations.check_integrity()
        for replica_id in (ONE, TWO):
            assert self.reservations[replica_id].pending_tokens >= 0
            remaining_tokens = self.reservations.remaining_tokens(replica_id, now=self.now)
            assert 0 <= remaining_tokens <= self.reservations[replica_id].pending_tokens
            assert self.reservations.remaining_s(replica_id, now=self.now) >= 0

    def teardown(self) -> None:
        """When everything has expired, nothing is outstanding."""
        for request_id in self.reservations.expired(now=self.now + 100):
            self.reservations.finished(request_id, now=self.now)
        for replica_id in (ONE, TWO):
            load = self.reservations[replica_id]
            assert (
                load.num_sequences
                == load.num_requests
                == load.pending_tokens
                == load.pending_s
                == load.running_prompt_tokens
                == 0
            )
            assert load.waiting_answer_tokens == load.running_answer_tokens == 0


TestReservationsMachine = ReservationsMachine.TestCase
TestReservationsMachine.settings = settings(max_examples=60, stateful_step_count=30)
