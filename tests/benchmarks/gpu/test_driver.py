"""The production router in front of engines of our own."""

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from benchmarks.gpu.comparison import make_router
from benchmarks.gpu.driver import TurnDriver
from benchmarks.gpu.engine import EngineAnswer
from benchmarks.gpu.sessions import Session, Turn
from router import Replica, ReplicaId, Router
from tests.benchmarks.gpu.fake_engine import BLOCK_SIZE, FakeEngine

IDS = (ReplicaId("engine-0"), ReplicaId("engine-1"))
PREFIX = tuple(range(400))


def router_of(policy: str = "prefix_affinity") -> Router:
    """Of two engines."""
    replicas = [Replica(replica_id, rank, 4000) for rank, replica_id in enumerate(IDS)]
    return make_router(policy, replicas, block_size=BLOCK_SIZE, seed="1")


def driver_of(router: Router, engines: Sequence[FakeEngine], *, heartbeat_s: float = 60) -> TurnDriver:
    """On the real clock, which decides nothing here."""
    engine_of = dict(zip(IDS, engines, strict=True))
    return TurnDriver(router, engine_of, answer_tokens=2, heartbeat_s=heartbeat_s, clock=time.perf_counter)


def session(*prompts: tuple[int, ...]) -> Session:
    """All at once, each after the answer before it."""
    return Session(0.0, tuple(Turn(prompt, think_s=0) for prompt in prompts))


def assert_idle(router: Router) -> None:
    """Nothing is booked any more, and what is believed holds together."""
    assert router.cluster.load.num_reservations == 0
    assert all(router.cluster.load[each].pending_tokens == 0 for each in IDS)
    router.check_integrity()


async def test_a_conversation_stays_where_its_prefix_is() -> None:
    """The records say what the engine reused, and what the router believed."""
    router, engines = router_of(), [FakeEngine(), FakeEngine()]
    driver = driver_of(router, engines)
    await driver.run([session(PREFIX, (*PREFIX, 1, 2, 3, 4), (*PREFIX, 1, 2, 3, 4, 5))])
    assert len({record.replica_id for record in driver.records}) == 1
    assert [record.cached_tokens for record in driver.records] == [0, 400, 404]
    assert [record.believed_cached_tokens for record in driver.records] == [0, 400, 404]
    assert all(record.ttft_s is not None and record.ttft_s > 0.010 for record in driver.records)
    assert driver.records[0].ended_s <= driver.records[1].started_s
    assert_idle(router)


async def test_round_robin_takes_turns() -> None:
    """So each engine computes the prefix."""
    router, engines = router_of("round_robin"), [FakeEngine(), FakeEngine()]
    driver = driver_of(router, engines)
    await driver.run([session(PREFIX, PREFIX, PREFIX, PREFIX)])
    assert [len(engine.prompts) for engine in engines] == [2, 2]
    assert sum(record.cached_tokens for record in driver.records) == 2 * 396
    assert_idle(router)


async def test_the_router_hears_of_a_first_token_at_once() -> None:
    """Before the answer's end, though only that tells what was cached."""
    seen: list[tuple[int, int]] = []

    class Watched(FakeEngine):
        async def ask(
            self, token_ids: Sequence[int], *, answer_tokens: int, on_first_token: Callable[[], None] = lambda: None
        ) -> EngineAnswer:
            def note() -> None:
                before = router.cluster.load.total.pending_tokens
                on_first_token()
                seen.append((before, router.cluster.load.total.pending_tokens))

            return await super().ask(token_ids, answer_tokens=answer_tokens, on_first_token=note)

    router = router_of()
    await driver_of(router, [Watched(), Watched()]).run([session(PREFIX)])
    assert seen == [(400, 0)]


async def test_a_failed_request_is_recorded_and_released() -> None:
    """The user goes on."""
    router, engines = router_of("round_robin"), [FakeEngine(failures=1), FakeEngine(failures=1)]
    driver = driver_of(router, engines)
    await driver.run([session(PREFIX, PREFIX, PREFIX)])
    assert [record.fault for record in driver.records] == ["the engine answered 500: too bad"] * 2 + [None]
    assert [record.ttft_s is None for record in driver.records] == [True, True, False]
    assert_idle(router)


async def test_sessions_come_whatever_the_engines_do() -> None:
    """The second one is there before the first is answered."""
    gate = asyncio.Event()

    class Gated(FakeEngine):
        async def ask(
            self, token_ids: Sequence[int], *, answer_tokens: int, on_first_token: Callable[[], None] = lambda: None
        ) -> EngineAnswer:
            if token_ids[0] == 1:
                await gate.wait()
            gate.set()
            return await super().ask(token_ids, answer_tokens=answer_tokens, on_first_token=on_first_token)

    router = router_of()
    driver = driver_of(router, [Gated(), Gated()])
    async with asyncio.timeout(30):
        await driver.run([session((1,) * 40), session((2,) * 40)])
    assert len(driver.records) == 2
    assert driver.max_late_s >= 0
    assert_idle(router)


async def test_an_engine_that_takes_long_stays_in_the_choice() -> None:
    """The router hears from it all the time, so it is not silent; what it has is not over."""
    router, has_heard = router_of(), asyncio.Event()
    beats: list[ReplicaId] = []
    on_heard = router.on_heard

    class Slow(FakeEngine):
        async def ask(
            self, token_ids: Sequence[int], *, answer_tokens: int, on_first_token: Callable[[], None] = lambda: None
        ) -> EngineAnswer:
            await has_heard.wait()
            assert router.cluster.load.num_reservations == 1
            return await super().ask(token_ids, answer_tokens=answer_tokens, on_first_token=on_first_token)

    def note(replica_id: ReplicaId, *, is_serving: bool, now: float) -> None:
        on_heard(replica_id, is_serving=is_serving, now=now)
        beats.append(replica_id)
        if beats.count(IDS[0]) > 10:
            has_heard.set()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(router, "on_heard", note)
        async with asyncio.timeout(30):
            await driver_of(router, [Slow(), Slow()], heartbeat_s=0).run([session(PREFIX)])
    assert {*beats} == {*IDS}
    assert_idle(router)
