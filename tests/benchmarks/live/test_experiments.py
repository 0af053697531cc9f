"""Each experiment from beginning to end, on an application in this process."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks.harness import processes
from benchmarks.harness.errors import MeasurementError
from benchmarks.live.failures import engine, engine_result, overload, router, router_result
from benchmarks.live.large_bodies import command as large_bodies
from benchmarks.live.large_bodies.result import ROUND
from benchmarks.live.large_bodies.sender import Burst, Sent
from benchmarks.live.soak import command as soak
from benchmarks.live.soak.samples import Recorder
from serve_app.messages.response_headers import UNROUTED
from tests.benchmarks.fake_server import FakeServer


@pytest.fixture
def console() -> Console:
    """Prints to nowhere."""
    return Console(file=StringIO())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application; its processes are what the experiments find."""
    application = FakeServer()
    monkeypatch.setattr(processes, "actor", application.process)
    monkeypatch.setattr(processes, "engines", application.engines)
    for name in ("AFTERWARDS_S", "START_INTERVAL_S", "POLL_S"):
        monkeypatch.setattr(engine, name, 0.01)
    monkeypatch.setattr(router, "POLL_S", 0.01)
    return application


def engine_plan(**changes: Any) -> engine_result.EngineDeathPlan:
    """Streams of a second and more."""
    fields: dict[str, Any] = {
        "kill": engine_result.Victim.ENGINE,
        "rank": None,
        "streams": 6,
        "tokens": 150,
        "seconds": 0.1,
        "rate": 20,
        "wait_s": 0.1,
        "timeout_s": 20,
        "keep_alive": False,
        "seed": 1,
    }
    return engine_result.EngineDeathPlan(**fields | changes)


async def test_a_killed_engine(server: Any, console: Console) -> None:
    """Its streams fail, the others do not, the replacement has its rank and its keys."""
    result = await engine.run(server, engine_plan(), console)
    assert result.faults() == []
    assert server.killed in ([1100], [1101])
    assert {each.outcome_text for each in result.streams_there} == {"error event"}
    assert {each.outcome_text for each in result.streams_elsewhere} == {"complete"}
    assert {recovery.out_because for recovery in result.recoveries.values()} == {"silent"}
    assert {recovery.replacement for recovery in result.recoveries.values()} == {"app#LLM#new0"}
    assert result.new
    assert all(each.is_complete for each in result.new)


async def test_the_killed_rank_can_be_chosen(server: Any, console: Console) -> None:
    """And only one that somebody has."""
    result = await engine.run(server, engine_plan(rank=1, kill=engine_result.Victim.ACTOR), console)
    assert (result.dead, result.rank) == ("app#LLM#r1", 1)
    assert server.killed == [101]
    with pytest.raises(ExceptionGroup) as caught:
        await engine.run(server, engine_plan(rank=7), console)
    assert caught.group_contains(MeasurementError, match="--rank 7 does not exist: there is 0, 1")


async def test_streams_that_are_over_too_soon_kill_nobody(server: Any, console: Console) -> None:
    """The user is told what to change."""
    with pytest.raises(ExceptionGroup) as caught:
        await engine.run(server, engine_plan(tokens=1), console)
    assert caught.group_contains(MeasurementError, match="raise --tokens")
    assert not server.excluded


@pytest.mark.parametrize(("both", "num_killed"), [(False, [1]), (True, [1, 2])])
async def test_killed_routers(server: Any, console: Console, *, both: bool, num_killed: list[int]) -> None:
    """No request is lost; while both are gone, nobody places them, and only then."""
    plan = router_result.RouterDeathPlan(
        both=both, clients=4, seconds=0.3, wait_s=0.1, timeout_s=20, keep_alive=False, seed=1
    )
    result = await router.run(server, plan, console)
    assert result.faults() == []
    assert [len(kill.router_ids) for kill in result.kills] == num_killed
    recovered = [kill.recovered_after_s(result.looks, 2) for kill in result.kills]
    assert all(seconds is not None and seconds >= 0.1 for seconds in recovered)
    reasons = [{each.reason for each in result.after_kill(number)} for number in range(len(num_killed))]
    assert reasons == [{"ring"}, {"ring", UNROUTED}][: len(num_killed)]


@pytest.mark.parametrize(("max_at_a_time", "fault"), [(2, None), (1000, "nothing was refused")])
async def test_overload(server: Any, console: Console, *, max_at_a_time: int, fault: str | None) -> None:
    """It stops a while after the first refusal, or when it has sent all it may."""
    server._max_at_a_time = max_at_a_time
    plan = overload.OverloadPlan(200, max_requests=60, seconds_after=0.05, prompt_words=5, answer_tokens=20, seed=1)
    result = await overload.run(server, plan, console)
    faults = result.faults()
    assert len(faults) == (fault is not None)
    if fault is not None:
        assert fault in faults[0]
        assert len(result.exchanges) == 60
    else:
        assert len(result.exchanges) < 60
        assert any(each.is_complete for each in result.exchanges)


class FakeSender:
    """Reaches half of what it should."""

    async def send(self, burst: Burst) -> Sent:
        """At once."""
        num_sent = round(burst.rate * burst.seconds / 2)
        return Sent(burst, num_sent, 0, 0.0, 0.1, {"400": num_sent}, (0.1,))


async def test_large_bodies(server: Any, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """In turn, each round the same; a sender that does not keep up is told."""
    monkeypatch.setattr(large_bodies, "WARM_UP_S", 0.05)
    plan = large_bodies.LargeBodiesPlan(rounds=2, seconds=0.1, rate=100, large_rate=40, limit_bytes=2**20, seed=1)
    sender: Any = FakeSender()
    result = await large_bodies._LargeBodies(server, sender, plan, console).run()
    assert [phase.alongside for phase in result.phases] == [*ROUND, *ROUND]
    assert all(phase.exchanges for phase in result.phases)
    assert [(phase.sent is not None) for phase in result.phases] == [False, True] * 4
    assert len(result.faults()) == 2


async def test_soak(server: Any, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples from the first second to the last, conversations that go on, and engines' totals."""
    monkeypatch.setattr(soak, "LOOK_S", 0.02)
    monkeypatch.setattr(processes, "haproxies", lambda _: [])
    monkeypatch.setattr(processes, "rss_mib", lambda group: 100.0 if group else None)
    path = tmp_path / "soak.csv"
    with Recorder(path) as recorder, Progress(console=console) as progress:
        result = await soak._Soak(server, recorder, progress).run(seconds=0.5, rate=100, sample_s=0.1, seed=1)
    assert result.faults() == []
    assert result.tally.num_requests >= 1
    names = {row[1] for row in csv.reader(path.read_text().splitlines()[1:])}
    assert {"MiB router a", "MiB replica 0", "MiB engine 1", "router b waiting", "client outstanding"} <= names
    waiting = next(course for course in result.courses if course.name == "router a waiting")
    assert waiting.quarters == (0, 0, 0, 0, 0)
    assert sum(totals.prompt_tokens for totals in result.engines().values()) >= 100
