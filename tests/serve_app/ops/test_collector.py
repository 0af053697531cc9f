"""What is read again and again, on a fake cluster and a real history."""

import msgspec
import pytest

from serve_app.ops.collector import FORGET_S, PREFIXES_S, Collector
from serve_app.ops.history import History
from serve_app.ops.windows import DAY_S, MOMENTS, WINDOWS
from tests.serve_app.ops.builders import PREFIX, Clock, FakeCluster, router

NOW_S = 1_800_000_000.0


def hot_tokens(collector: Collector) -> list[int]:
    """Of the hottest prefixes, as they are shown."""
    return [prefix.tokens for prefix in collector.application_to_prefixes["warmroute"]]


async def prompts_of(collector: Collector, window: str) -> float:
    """In a window up to now."""

    def total(history: History) -> float:
        series_to_totals = history.totals(WINDOWS[window], now_s=collector.now_s)
        return sum(totals.funnel.prompts for series, totals in series_to_totals.items() if series.label == "rank")

    return await collector.ask(total) or 0.0


@pytest.mark.parametrize("jump_s", [10 * 365 * DAY_S, -10 * 365 * DAY_S])
async def test_a_clock_that_jumps_stops_nothing(jump_s: float) -> None:
    """When it is right again, prompts before and after are in the windows, prefixes are read, and old is forgotten."""
    clock, steady_clock = Clock(NOW_S), Clock(0.0)
    cluster = FakeCluster(router("a", r0=3))
    collector = Collector(cluster, None, clock=clock, steady_clock=steady_clock)
    await collector.read()
    clock.now_s = NOW_S + jump_s
    cluster.routers = [router("a", r0=4)]
    steady_clock.now_s += FORGET_S
    await collector.read()
    clock.now_s = NOW_S + 10
    cluster.routers = [router("a", r0=6)]
    cluster.prefixes = [msgspec.structs.replace(PREFIX, tokens=2048)]
    steady_clock.now_s += PREFIXES_S
    await collector.read()
    assert await prompts_of(collector, "5m") == 5
    assert hot_tokens(collector) == [2048]
    assert MOMENTS.kept_s is not None
    steady_clock.now_s += MOMENTS.kept_s + 1
    await collector.read()
    assert await prompts_of(collector, "5m") == 0


async def test_hashes_do_not_leave_the_process() -> None:
    """What is shown is the same each time, for the same hash, and tells nothing without this process's key."""

    async def shown(hashes: list[str], key: bytes | None) -> list[str]:
        cluster = FakeCluster(router("a", r0=1))
        cluster.prefixes = [msgspec.structs.replace(PREFIX, hash=block_hash) for block_hash in hashes]
        collector = Collector(cluster, None, clock=Clock(NOW_S), prefix_key=key)
        await collector.read()
        return [prefix.hash for prefix in collector.application_to_prefixes["warmroute"]]

    one, another = await shown(["00ff", "00fe"], b"key")
    assert await shown(["00fe", "00ff"], b"key") == [another, one]
    names = [
        one,
        another,
        *await shown(["00ff"], b"another"),
        *await shown(["00ff"], None),
        *await shown(["00ff"], None),
    ]
    assert len(set(names)) == 5
    assert all(len(name) == 16 and "00ff" not in name for name in names)
