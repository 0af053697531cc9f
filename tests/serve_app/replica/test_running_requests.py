"""A replica's own account."""

from router import RequestId
from serve_app.autoscaling.stats import WorkStats
from serve_app.messages.receipts import Arrived, EngineState, Finished, Prefilled, Receipt, Status
from serve_app.replica.running_requests import Ledger

ONE, TWO = RequestId("one"), RequestId("two")


class Clock:
    """Stands still until told."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def make_ledger() -> tuple[Ledger, list[Receipt], Clock]:
    """A ledger, what it reports, and its clock."""
    receipts, clock = list[Receipt](), Clock()
    return Ledger(receipts.append, clock=clock), receipts, clock


def test_a_request_is_reported_from_arrival_to_end() -> None:
    """In this order, and nothing is left of it."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.prefilled(ONE, prompt_tokens=10, cached_tokens=4)
    ledger.finished(ONE)
    assert receipts == [Arrived(ONE), Prefilled(ONE, 10, 4, ttft_s=0.0), Finished(ONE)]
    assert (ledger.num_outstanding, ledger.num_waiting) == (0, 0)


def test_an_arrival_is_told_with_what_comes_next() -> None:
    """Once, and how long ago that was; at once where the routers think the request to be elsewhere."""
    ledger, receipts, clock = make_ledger()
    ledger.arrived(ONE)
    assert receipts == []
    clock.now = 0.25
    ledger.arrived(TWO, is_expected=False)
    assert receipts == [Arrived(ONE, waited_s=0.25), Arrived(TWO)]
    ledger.report_status()
    assert [type(receipt) for receipt in receipts[2:]] == [Status]


def test_an_end_needs_no_arrival_before_it() -> None:
    """Of a request that was refused, say."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.finished(ONE)
    ledger.report_status()
    assert receipts[0] == Finished(ONE)
    assert [type(receipt) for receipt in receipts[1:]] == [Status]


def test_a_request_is_prefilled_from_its_first_output_to_its_end() -> None:
    """By the engine's word alone."""
    ledger, _, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.answering(ONE, "engine's", lambda: 0)
    assert not ledger.has_prefilled(ONE)
    ledger.prefilled(ONE, prompt_tokens=10, cached_tokens=10)
    assert ledger.has_prefilled(ONE)
    ledger.finished(ONE)
    assert not ledger.has_prefilled(ONE)


def test_the_end_has_the_tokens_of_all_answers() -> None:
    """As they are then: of each choice and each prompt once, however often the engine is given it."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    answers = {"first": [1, 2, 3], "second": [4]}
    for engine_id in ("first", "second", "first"):
        ledger.answering(ONE, engine_id, answers[engine_id].__len__)
    answers["second"].append(5)
    ledger.finished(ONE)
    assert receipts[-1] == Finished(ONE, 5)
    ledger.report_status()
    assert isinstance(receipts[-1], Status)
    assert receipts[-1].answer_tokens == 5


def test_an_answer_that_nobody_counts_is_unknown() -> None:
    """The engine never had the request; and what it has of others, or of one that is over, is nobody's."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.answering(None, "warm-up", lambda: 7)
    ledger.answering(TWO, "late", lambda: 7)
    ledger.finished(ONE)
    assert receipts[-1] == Finished(ONE, None)


def test_the_status_is_the_whole_account() -> None:
    """Requests outstanding, totals of every prompt, routed or not, and the engine's last numbers."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.arrived(TWO)
    ledger.finished(ONE)
    ledger.prefilled(TWO, prompt_tokens=10, cached_tokens=4)
    ledger.prefilled(None, prompt_tokens=100, cached_tokens=0)
    ledger.uncounted("aborted", prompt_tokens=7)
    ledger.engine_stepped(EngineState(waiting=1, running=1, kv_use=0.2), looked_up_tokens=130, hit_tokens=5)
    ledger.engine_stepped(EngineState(waiting=1, running=2, kv_use=0.5), hit_tokens=4)
    ledger.report_status()
    assert receipts[-1] == Status(
        outstanding={TWO: 10},
        is_serving=True,
        prompt_tokens=110,
        cached_tokens=4,
        uncounted_tokens={"aborted": 7},
        looked_up_tokens=130,
        hit_tokens=9,
        engine=EngineState(1, 2, 0.5),
    )


def test_waiting_ends_with_the_first_token_or_the_request() -> None:
    """A second choice's first token is no second wait."""
    ledger, _, clock = make_ledger()
    ledger.arrived(ONE)
    ledger.arrived(TWO)
    assert ledger.num_waiting == 2
    clock.now = 3
    ledger.prefilled(ONE, prompt_tokens=10, cached_tokens=0)
    clock.now = 9
    ledger.prefilled(ONE, prompt_tokens=10, cached_tokens=10)
    assert (ledger.num_waiting, ledger.num_outstanding, ledger.last_wait_s) == (1, 2, 3)
    ledger.finished(TWO)
    assert ledger.num_waiting == 0


def give_to_engine(ledger: Ledger, request_id: RequestId, *engine_ids: str) -> None:
    """It has these sequences of the request now."""
    for engine_id in engine_ids:
        ledger.answering(request_id, engine_id, lambda: 0)


def test_every_sequence_waits_for_its_first_token() -> None:
    """Of two answers to each of two prompts; the first token of the last one ends the wait."""
    ledger, receipts, clock = make_ledger()
    ledger.arrived(ONE, num_sequences=4, uncached_tokens=100)
    ledger.arrived(TWO)
    assert (ledger.num_waiting, ledger.num_waiting_requests) == (5, 2)
    give_to_engine(ledger, ONE, "0_a", "1_a", "0_b", "1_b")
    told = []
    for number, (cached_tokens, num_waiting, waiting_tokens) in enumerate(
        ((0, 4, 50), (48, 3, 48), (16, 2, 14), (50, 1, 0))
    ):
        clock.now = number + 3
        ledger.prefilled(ONE, prompt_tokens=50, cached_tokens=cached_tokens)
        assert (ledger.num_waiting, ledger.waiting_tokens) == (num_waiting, waiting_tokens)
        assert ledger.last_wait_s == clock.now
        told.append(receipts[-1])
    assert [each.ttft_s for each in told if isinstance(each, Prefilled)] == [3, None, None, None]
    assert ledger.num_waiting_requests == 1


def test_what_the_engine_has_counts_more_than_what_the_router_read() -> None:
    """Which was too little of a body that it could not read, and too much of an API that has no `n`."""
    ledger, _, _ = make_ledger()
    ledger.arrived(ONE)
    give_to_engine(ledger, ONE, "0_a", "1_a", "2_a")
    assert ledger.num_waiting == 3
    ledger.prefilled(ONE, prompt_tokens=10, cached_tokens=0)
    assert ledger.num_waiting == 2
    ledger.finished(ONE)
    ledger.arrived(TWO, num_sequences=200)
    give_to_engine(ledger, TWO, "b")
    assert ledger.num_waiting == 200
    ledger.prefilled(TWO, prompt_tokens=10, cached_tokens=0)
    assert (ledger.num_waiting, ledger.num_waiting_requests, ledger.num_outstanding) == (0, 0, 1)


def test_beams_wait_anew_with_every_token_and_say_nothing_of_the_queue() -> None:
    """Each is a sequence of one token, of which the first two are those that the client asked for."""
    ledger, _, clock = make_ledger()
    ledger.arrived(ONE, num_sequences=2)
    for step in range(5):
        beams = [f"{step}-{beam}" for beam in range(2 if step else 1)]
        give_to_engine(ledger, ONE, *beams)
        assert ledger.num_waiting == (len(beams) if step else 2)
        clock.now += 1
        for _ in beams:
            ledger.prefilled(ONE, prompt_tokens=10 + step, cached_tokens=9)
        assert ledger.num_waiting == 0
    assert ledger.last_wait_s == 2


def test_it_is_crowded_where_the_engine_may_evict_at_any_moment() -> None:
    """Requests wait, or much of the memory is in use, or nothing is known; not without requests of others."""
    ledger, _, _ = make_ledger()
    assert not ledger.is_crowded
    ledger.arrived(ONE)
    assert ledger.is_crowded
    for waiting, kv_use, is_crowded in ((0, 0.2, False), (0, 0.7, True), (1, 0.2, True)):
        ledger.engine_stepped(EngineState(waiting, running=1, kv_use=kv_use))
        assert ledger.is_crowded is is_crowded
    ledger.finished(ONE)
    assert not ledger.is_crowded


def test_a_dead_engine_is_reported_at_once() -> None:
    """With the requests that are lost with it still on the list: their responses end by themselves."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.engine_died()
    (status,) = receipts[1:]
    assert isinstance(status, Status)
    assert (status.is_serving, status.outstanding, ledger.is_serving) == (False, {ONE: 0}, False)


def test_a_request_passed_on_is_not_reported_as_over() -> None:
    """The replica that gets it reports that it arrived there, and in time that it is over."""
    ledger, receipts, _ = make_ledger()
    ledger.arrived(ONE)
    ledger.passed_on(ONE)
    ledger.passed_on(None)
    ledger.finished(ONE)
    ledger.report_status()
    assert [type(receipt) for receipt in receipts] == [Status]
    assert (ledger.num_outstanding, ledger.num_waiting) == (0, 0)


def test_waiting_tokens_are_those_without_a_first_token() -> None:
    """A prompt that got one, or is over, waits no more."""
    ledger, _, _ = make_ledger()
    ledger.arrived(ONE, uncached_tokens=100)
    ledger.arrived(TWO, uncached_tokens=30)
    assert ledger.waiting_tokens == 130
    ledger.prefilled(ONE, prompt_tokens=150, cached_tokens=50)
    assert ledger.waiting_tokens == 30
    ledger.finished(TWO)
    assert ledger.waiting_tokens == 0


def test_work_is_what_was_computed_waits_or_was_refused() -> None:
    """A belief counts until the engine's own number is there; what is withdrawn was no work."""
    ledger, _, _ = make_ledger()
    assert ledger.work == WorkStats(arrived_tokens=0, waiting_tokens=0, kv_use=None)
    ledger.arrived(ONE, uncached_tokens=100)
    ledger.arrived(TWO, uncached_tokens=30)
    assert ledger.work == WorkStats(arrived_tokens=130, waiting_tokens=130, kv_use=None)
    ledger.prefilled(ONE, prompt_tokens=500, cached_tokens=420)
    assert ledger.work == WorkStats(arrived_tokens=110, waiting_tokens=30, kv_use=None)
    ledger.finished(TWO)
    assert ledger.work == WorkStats(arrived_tokens=80, waiting_tokens=0, kv_use=None)


def test_work_that_was_refused_came_all_the_same() -> None:
    """Or a replica that turns requests away would look idle. It waits no longer."""
    ledger, _, _ = make_ledger()
    ledger.arrived(ONE, uncached_tokens=100)
    ledger.refused(ONE)
    ledger.refused(None)
    ledger.finished(ONE)
    assert ledger.work == WorkStats(arrived_tokens=100, waiting_tokens=0, kv_use=None)


def test_a_prompt_that_must_not_use_the_cache_is_work() -> None:
    """All of it; what no request of a router's asked for, too."""
    ledger, _, _ = make_ledger()
    ledger.prefilled(None, prompt_tokens=40, cached_tokens=0, uncounted="not looked up")
    assert ledger.work.arrived_tokens == 40
