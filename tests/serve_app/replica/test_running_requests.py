"""A replica's own account."""

from router import RequestId
from serve_app.autoscaling.stats import WorkStats
from serve_app.messages.receipts import Arrived, EngineState, Finished, Prefilled, Receipt, Status
from serve_app.replica.running_requests import RunningRequests

ONE, TWO = RequestId("one"), RequestId("two")


class Clock:
    """Stands still until told."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def make_running() -> tuple[RunningRequests, list[Receipt], Clock]:
    """A running, what it reports, and its clock."""
    receipts, clock = list[Receipt](), Clock()
    return RunningRequests(receipts.append, clock=clock), receipts, clock


def test_a_request_is_reported_from_arrival_to_end() -> None:
    """In this order, and nothing is left of it."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    running.prefilled(ONE, prompt_tokens=10, cached_tokens=4)
    running.finished(ONE)
    assert receipts == [Arrived(ONE), Prefilled(ONE, 10, 4, ttft_s=0.0), Finished(ONE)]
    assert (running.num_outstanding, running.num_waiting) == (0, 0)


def test_an_arrival_is_told_with_what_comes_next() -> None:
    """Once, and how long ago that was; at once where the routers think the request to be elsewhere."""
    running, receipts, clock = make_running()
    running.arrived(ONE)
    assert receipts == []
    clock.now = 0.25
    running.arrived(TWO, is_expected=False)
    assert receipts == [Arrived(ONE, waited_s=0.25), Arrived(TWO)]
    running.report_status()
    assert [type(receipt) for receipt in receipts[2:]] == [Status]


def test_an_end_needs_no_arrival_before_it() -> None:
    """Of a request that was refused, say."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    running.finished(ONE)
    running.report_status()
    assert receipts[0] == Finished(ONE)
    assert [type(receipt) for receipt in receipts[1:]] == [Status]


def test_a_request_is_prefilled_from_its_first_output_to_its_end() -> None:
    """By the engine's word alone."""
    running, _, _ = make_running()
    running.arrived(ONE)
    running.answering(ONE, "engine's", lambda: 0)
    assert not running.has_prefilled(ONE)
    running.prefilled(ONE, prompt_tokens=10, cached_tokens=10)
    assert running.has_prefilled(ONE)
    running.finished(ONE)
    assert not running.has_prefilled(ONE)


def test_the_end_has_the_tokens_of_all_answers() -> None:
    """As they are then: of each choice and each prompt once, however often the engine is given it."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    answers = {"first": [1, 2, 3], "second": [4]}
    for engine_id in ("first", "second", "first"):
        running.answering(ONE, engine_id, answers[engine_id].__len__)
    answers["second"].append(5)
    running.finished(ONE)
    assert receipts[-1] == Finished(ONE, 5)
    running.report_status()
    assert isinstance(receipts[-1], Status)
    assert receipts[-1].answer_tokens == 5


def test_an_answer_that_no_one_counts_is_unknown() -> None:
    """The engine never had the request; and what it has of others, or of one that is over, counts for none."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    running.answering(None, "warm-up", lambda: 7)
    running.answering(TWO, "late", lambda: 7)
    running.finished(ONE)
    assert receipts[-1] == Finished(ONE, None)


def test_the_status_is_the_whole_account() -> None:
    """Requests outstanding, totals of every prompt, routed or not, and the engine's last numbers."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    running.arrived(TWO)
    running.finished(ONE)
    running.prefilled(TWO, prompt_tokens=10, cached_tokens=4)
    running.prefilled(None, prompt_tokens=100, cached_tokens=0)
    running.uncounted("aborted", prompt_tokens=7)
    running.engine_stepped(EngineState(waiting=1, running=1, kv_use=0.2), looked_up_tokens=130, hit_tokens=5)
    running.engine_stepped(EngineState(waiting=1, running=2, kv_use=0.5), hit_tokens=4)
    running.report_status()
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
    running, _, clock = make_running()
    running.arrived(ONE)
    running.arrived(TWO)
    assert running.num_waiting == 2
    clock.now = 3
    running.prefilled(ONE, prompt_tokens=10, cached_tokens=0)
    clock.now = 9
    running.prefilled(ONE, prompt_tokens=10, cached_tokens=10)
    assert (running.num_waiting, running.num_outstanding, running.last_wait_s) == (1, 2, 3)
    running.finished(TWO)
    assert running.num_waiting == 0


def give_to_engine(running: RunningRequests, request_id: RequestId, *engine_ids: str) -> None:
    """It has these sequences of the request now."""
    for engine_id in engine_ids:
        running.answering(request_id, engine_id, lambda: 0)


def test_every_sequence_waits_for_its_first_token() -> None:
    """Of two answers to each of two prompts; the first token of the last one ends the wait."""
    running, receipts, clock = make_running()
    running.arrived(ONE, num_sequences=4, uncached_tokens=100)
    running.arrived(TWO)
    assert (running.num_waiting, running.num_waiting_requests) == (5, 2)
    give_to_engine(running, ONE, "0_a", "1_a", "0_b", "1_b")
    told = []
    for number, (cached_tokens, num_waiting, waiting_tokens) in enumerate(
        ((0, 4, 50), (48, 3, 48), (16, 2, 14), (50, 1, 0))
    ):
        clock.now = number + 3
        running.prefilled(ONE, prompt_tokens=50, cached_tokens=cached_tokens)
        assert (running.num_waiting, running.waiting_tokens) == (num_waiting, waiting_tokens)
        assert running.last_wait_s == clock.now
        told.append(receipts[-1])
    assert [each.ttft_s for each in told if isinstance(each, Prefilled)] == [3, None, None, None]
    assert running.num_waiting_requests == 1


def test_what_the_engine_has_counts_more_than_what_the_router_read() -> None:
    """Which was too little of a body that it could not read, and too much of an API that has no `n`."""
    running, _, _ = make_running()
    running.arrived(ONE)
    give_to_engine(running, ONE, "0_a", "1_a", "2_a")
    assert running.num_waiting == 3
    running.prefilled(ONE, prompt_tokens=10, cached_tokens=0)
    assert running.num_waiting == 2
    running.finished(ONE)
    running.arrived(TWO, num_sequences=200)
    give_to_engine(running, TWO, "b")
    assert running.num_waiting == 200
    running.prefilled(TWO, prompt_tokens=10, cached_tokens=0)
    assert (running.num_waiting, running.num_waiting_requests, running.num_outstanding) == (0, 0, 1)


def test_beams_wait_anew_with_every_token_and_say_nothing_of_the_queue() -> None:
    """Each is a sequence of one token, of which the first two are those that the client asked for."""
    running, _, clock = make_running()
    running.arrived(ONE, num_sequences=2)
    for step in range(5):
        beams = [f"{step}-{beam}" for beam in range(2 if step else 1)]
        give_to_engine(running, ONE, *beams)
        assert running.num_waiting == (len(beams) if step else 2)
        clock.now += 1
        for _ in beams:
            running.prefilled(ONE, prompt_tokens=10 + step, cached_tokens=9)
        assert running.num_waiting == 0
    assert running.last_wait_s == 2


def test_it_is_crowded_where_the_engine_may_evict_at_any_moment() -> None:
    """Requests wait, or much of the memory is in use, or nothing is known; not without requests of others."""
    running, _, _ = make_running()
    assert not running.is_crowded
    running.arrived(ONE)
    assert running.is_crowded
    for waiting, kv_use, is_crowded in ((0, 0.2, False), (0, 0.7, True), (1, 0.2, True)):
        running.engine_stepped(EngineState(waiting, running=1, kv_use=kv_use))
        assert running.is_crowded is is_crowded
    running.finished(ONE)
    assert not running.is_crowded


def test_a_dead_engine_is_reported_at_once() -> None:
    """With the requests that are lost with it still on the list: their responses end by themselves."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    running.engine_died()
    (status,) = receipts[1:]
    assert isinstance(status, Status)
    assert (status.is_serving, status.outstanding, running.is_serving) == (False, {ONE: 0}, False)


def test_a_request_passed_on_is_not_reported_as_over() -> None:
    """The replica that gets it reports that it arrived there, and in time that it is over."""
    running, receipts, _ = make_running()
    running.arrived(ONE)
    running.passed_on(ONE)
    running.passed_on(None)
    running.finished(ONE)
    running.report_status()
    assert [type(receipt) for receipt in receipts] == [Status]
    assert (running.num_outstanding, running.num_waiting) == (0, 0)


def test_waiting_tokens_are_those_without_a_first_token() -> None:
    """A prompt that got one, or is over, waits no more."""
    running, _, _ = make_running()
    running.arrived(ONE, uncached_tokens=100)
    running.arrived(TWO, uncached_tokens=30)
    assert running.waiting_tokens == 130
    running.prefilled(ONE, prompt_tokens=150, cached_tokens=50)
    assert running.waiting_tokens == 30
    running.finished(TWO)
    assert running.waiting_tokens == 0


def test_work_is_what_was_computed_waits_or_was_refused() -> None:
    """A belief counts until the engine's own number is there; what is withdrawn was no work."""
    running, _, _ = make_running()
    assert running.work == WorkStats(arrived_tokens=0, waiting_tokens=0, kv_use=None)
    running.arrived(ONE, uncached_tokens=100)
    running.arrived(TWO, uncached_tokens=30)
    assert running.work == WorkStats(arrived_tokens=130, waiting_tokens=130, kv_use=None)
    running.prefilled(ONE, prompt_tokens=500, cached_tokens=420)
    assert running.work == WorkStats(arrived_tokens=110, waiting_tokens=30, kv_use=None)
    running.finished(TWO)
    assert running.work == WorkStats(arrived_tokens=80, waiting_tokens=0, kv_use=None)


def test_work_that_was_refused_came_all_the_same() -> None:
    """Or a replica that turns requests away would look idle. It waits no longer."""
    running, _, _ = make_running()
    running.arrived(ONE, uncached_tokens=100)
    running.refused(ONE)
    running.refused(None)
    running.finished(ONE)
    assert running.work == WorkStats(arrived_tokens=100, waiting_tokens=0, kv_use=None)


def test_a_prompt_that_must_not_use_the_cache_is_work() -> None:
    """All of it; what no request of a router's asked for, too."""
    running, _, _ = make_running()
    running.prefilled(None, prompt_tokens=40, cached_tokens=0, uncounted="not looked up")
    assert running.work.arrived_tokens == 40
