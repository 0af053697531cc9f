"""What is read again and again, on a fake cluster and a real book."""

from typing import Any

import pytest

from serve_app.ops.collector import FORGET_S, PREFIXES_S, Collector
from serve_app.ops.history import Book
from serve_app.ops.windows import DAY_S, MOMENTS, WINDOWS
from tests.serve_app.ops.builders import PREFIX, Clock, FakeCluster, router

NOW_S = 1_800_000_000.0


def hot_tokens(collector: Collector) -> list[int]:
    """Of the hottest prefixes, as they are shown."""
    return [each["tokens"] for each in collector.application_to_prefixes["warmroute"]]


async def prompts_of(collector: Collector, window: str) -> float:
    """In a window up to now."""

    def total(book: Book) -> float:
        series_to_amounts = book.totals(WINDOWS[window], now_s=collector.now_s)
        return sum(each["prompts"] for series, each in series_to_amounts.items() if series.label == "rank")

    return await collector.ask(total) or 0.0


@pytest.mark.parametrize("jump_s", [10 * 365 * DAY_S, -10 * 365 * DAY_S])
async def test_a_clock_that_jumps_stops_nothing(jump_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setitem(PREFIX, "tokens", 2048)
    steady_clock.now_s += PREFIXES_S
    await collector.read()
    assert await prompts_of(collector, "5m") == 5
    assert hot_tokens(collector) == [2048]
    assert MOMENTS.kept_s is not None
    steady_clock.now_s += MOMENTS.kept_s + 1
    await collector.read()
    assert await prompts_of(collector, "5m") == 0


class FixedCluster(FakeCluster):
    """Whose one router says just this."""

    async def snapshots(self, application: str, num_prefixes: int) -> list[dict[str, Any]]:
        """The same each time."""
        del application, num_prefixes
        return self.routers


async def test_hashes_do_not_leave_the_process() -> None:
    """What is shown is the same each time, for the same hash, and tells nothing without this process's key."""

    async def shown(hashes: list[str], key: bytes | None) -> list[str]:
        snapshot = {**router("a", r0=1), "hot_prefixes": [{**PREFIX, "hash": each} for each in hashes]}
        collector = Collector(FixedCluster(snapshot), None, clock=Clock(NOW_S), prefix_key=key)
        await collector.read()
        return [each["hash"] for each in collector.application_to_prefixes["warmroute"]]

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
    assert all(len(each) == 16 and "00ff" not in each for each in names)
