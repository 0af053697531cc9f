"""Sessions against a server in this process."""

import asyncio
import time
from itertools import count

import httpx
import pytest

from loadtests.bench.driver import SESSION_HEADER, SessionDriver
from loadtests.client.answers import Outcome
from tests.benchmarks.fake_server import FakeServer
from tests.loadtests.bench.builders import session


def driver(server: FakeServer, *, think_scale: float = 1.0) -> SessionDriver:
    """Of the fake's only model."""
    return SessionDriver(server.client(), model="demo", think_scale=think_scale)


def test_every_turn_is_sent_and_counted() -> None:
    """With what the usage and the headers say."""
    server, done = FakeServer(), []
    some = SessionDriver(server.client(), model="demo", think_scale=1.0, on_done=done.append)
    records = asyncio.run(some.open_loop([session("a"), session("b", turns=3)], [0.0, 0.01]))
    assert sorted((each.session, each.turn) for each in records) == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    assert {each.outcome for each in records} == {Outcome.COMPLETE}
    assert {(each.prompt_tokens, each.cached_tokens, each.reason) for each in records} == {(100, 60, "ring")}
    assert {each.replica for each in records} == set(server.pid_to_replica.values())
    assert len(done) == 5


def test_sessions_start_when_they_are_due_and_turns_when_their_user_has_thought() -> None:
    """A turn is due after the answer before and the scaled pause; records come in order of being due."""
    sessions = [session("late", turns=1), session("early", turns=2, think_s=0.2)]
    records = asyncio.run(driver(FakeServer(), think_scale=0.5).open_loop(sessions, [0.05, 0.0]))
    early, late, second = records
    assert [each.session for each in records] == ["early", "late", "early"]
    assert late.due_s == pytest.approx(0.05)
    assert second.due_s >= early.due_s + early.end_to_end_s + 0.1


def test_time_counts_from_when_a_request_was_due() -> None:
    """What holds this process up is part of what a user waits, and no request is left out for it."""

    async def run() -> None:
        some = driver(FakeServer())
        task = asyncio.create_task(some.open_loop([session("a", turns=1)], [0.01]))
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251  this is the point
        (record,) = await task
        assert record.late_s >= 0.08
        assert record.ttft_s is not None
        assert record.ttft_s >= record.late_s
        assert record.end_to_end_s >= record.ttft_s

    asyncio.run(run())


def test_a_request_that_fails_is_kept_and_the_session_goes_on() -> None:
    """Too many at a time are refused; a refused request has no first token."""
    server = FakeServer(max_at_a_time=1)
    sessions = [session(f"s{number}") for number in range(4)]
    records = asyncio.run(driver(server).open_loop(sessions, [0.0] * 4))
    assert len(records) == 8
    refused = [each for each in records if each.outcome is Outcome.REFUSED]
    assert refused
    assert all(each.is_shed and each.ttft_s is None and each.prompt_tokens == 0 for each in refused)


def test_a_closed_loop_has_so_many_sessions_at_a_time() -> None:
    """The next begins when one ends, until the time is over; what has begun is awaited."""
    sessions = (session(f"s{number}", turns=2) for number in count())
    now_s = count(0, 0.01)  # a moment passes whenever somebody looks
    client = FakeServer(max_at_a_time=2).client()
    some = SessionDriver(client, model="demo", think_scale=1.0, clock=lambda: next(now_s))
    records = asyncio.run(some.closed_loop(sessions, num_users=2, seconds=0.15))
    assert len({each.session for each in records}) > 2
    assert all(each.is_complete for each in records), "never three at a time"
    assert all(each.due_s <= 0.15 for each in records)


def test_requests_name_their_session() -> None:
    """In the header by which Ray's consistent hash router goes."""
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers[SESSION_HEADER])
        return httpx.Response(503)

    client = httpx.AsyncClient(base_url="http://server", transport=httpx.MockTransport(answer))
    asyncio.run(SessionDriver(client, model="demo", think_scale=0.0).open_loop([session("mine")], [0.0]))
    assert seen == ["mine", "mine"]
