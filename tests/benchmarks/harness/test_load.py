"""Steady load: so many a second, or so many at a time."""

import asyncio
import itertools

import httpx
import orjson
import pytest

from benchmarks.harness.load import Load, closed_loop, open_loop, outcome_counts, short_requests
from benchmarks.harness.running_server import until


class Answers:
    """A server that answers after a while, or never; and stops the load after so many requests."""

    def __init__(self, *, answer_s: float | None, stop_after: int, stopped: asyncio.Event) -> None:
        self._answer_s = answer_s
        self._stop_after = stop_after
        self._stopped = stopped
        self.num_asked = 0
        self.most_at_a_time = 0
        self._at_a_time = 0

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        """To httpx's mock transport."""
        self.num_asked += 1
        self._at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self._at_a_time)
        if self.num_asked >= self._stop_after:
            self._stopped.set()
        if self._answer_s is None:
            await self._stopped.wait()
        else:
            await asyncio.sleep(self._answer_s)
        self._at_a_time -= 1
        return httpx.Response(200)


def client_of(answers: Answers) -> httpx.AsyncClient:
    """Connected to it."""
    return httpx.AsyncClient(base_url="http://server", transport=httpx.MockTransport(answers))


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    """Every request is sent, and followed to its end after the loop was stopped."""
    stopped = asyncio.Event()
    answers, load = Answers(answer_s=None, stop_after=5, stopped=stopped), Load()
    async with client_of(answers) as client:
        requests = short_requests("demo", seed=1, kind="short")
        await open_loop(client, requests, load, rate=500, stopped=stopped)
    assert answers.most_at_a_time == answers.num_asked == len(load.exchanges) == 5
    assert (load.num_outstanding, load.num_unsent) == (0, 0)
    assert 0 <= load.max_late_s < 1
    assert outcome_counts(load.exchanges) == {"complete": 5}


async def test_an_open_loop_has_a_limit_and_counts_what_it_did_not_send() -> None:
    """Rather than fill the client's memory."""
    stopped = asyncio.Event()
    answers, load = Answers(answer_s=None, stop_after=1000, stopped=stopped), Load()
    async with client_of(answers) as client, asyncio.TaskGroup() as tasks:
        requests = short_requests("demo", seed=1, kind="short")
        tasks.create_task(open_loop(client, requests, load, rate=500, stopped=stopped, max_outstanding=3))
        assert await until(lambda: load.num_unsent >= 4, timeout_s=10, poll_s=0.005)
        stopped.set()
    assert answers.num_asked == 3
    assert len(load.exchanges) == 3


async def test_a_closed_loop_keeps_so_many_under_way() -> None:
    """And no more; the last ones are answered."""
    stopped = asyncio.Event()
    answers, load = Answers(answer_s=0.001, stop_after=20, stopped=stopped), Load()
    async with client_of(answers) as client:
        requests = short_requests("demo", seed=1, kind="short")
        await closed_loop(client, requests, load, num_clients=4, stopped=stopped, pause_s=0)
    assert answers.most_at_a_time == 4
    assert 20 <= answers.num_asked <= 23
    assert load.num_outstanding == 0


async def test_what_has_ended_can_be_taken_away() -> None:
    """So that a load of hours does not fill the client's memory; each end is told once."""
    stopped = asyncio.Event()
    ended: list[str] = []
    load = Load(on_end=lambda each: ended.append(each.request_id))
    answers = Answers(answer_s=None, stop_after=1000, stopped=stopped)
    async with client_of(answers) as client, asyncio.TaskGroup() as tasks:
        first, second = itertools.islice(short_requests("demo", seed=1, kind="short"), 2)
        tasks.create_task(load.send(client, first))
        await until(lambda: answers.num_asked == 1, timeout_s=10, poll_s=0.005)
        assert load.take_ended() == []
        stopped.set()
        await until(lambda: bool(ended), timeout_s=10, poll_s=0.005)
        await load.send(client, second)
        assert [each.request_id for each in load.take_ended()] == ended == [first.request_id, second.request_id]
        assert load.take_ended() == load.exchanges == []


@pytest.mark.parametrize("kind", ["short", "ordinary"])
def test_short_requests_are_the_same_for_the_same_seed(kind: str) -> None:
    """And each kind has its own."""
    drawn = list(itertools.islice(short_requests("demo", seed=1, kind=kind), 20))
    assert drawn == list(itertools.islice(short_requests("demo", seed=1, kind=kind), 20))
    assert drawn != list(itertools.islice(short_requests("demo", seed=2, kind=kind), 20))
    assert len({each.request_id for each in drawn}) == 20
    words = [len(orjson.loads(each.content)["messages"][0]["content"].split()) for each in drawn]
    assert min(words) >= 30, "shorter ones might not fill a block"


def test_one_in_two_may_want_its_answer_whole() -> None:
    """As another kind."""
    drawn = list(itertools.islice(short_requests("demo", seed=1, kind="short", are_some_whole=True), 4))
    assert [each.kind for each in drawn] == ["short", "short, whole"] * 2
    assert ["stream" in orjson.loads(each.content) for each in drawn] == [True, False] * 2
