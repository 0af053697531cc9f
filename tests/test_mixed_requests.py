"""What makes the run fail."""

from typing import Any

import msgspec
import orjson
import pytest

from benchmarks.harness.snapshots import EngineTotals
from loadtests.client.answers import Outcome
from loadtests.client.exchange import Exchange
from router import Funnel, Loss
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import RouterSnapshot, Totals, short_id
from tests import mixed_requests
from tests.agreement import Counted
from tests.benchmarks.fake_server import FakeServer
from tests.engine_counters import CacheCounters
from tests.mixed_requests import MixedRequests
from tests.request_mix import KINDS, request_mix
from tests.snapshots import engine, replica, router

NONE = Counted({"one": EngineTotals(0, 0, 0, 0, {})}, {})


def routers(name: str = "a", **fields: object) -> list[RouterSnapshot]:
    """One, with one replica."""
    return [router(name, {"app#LLM#one": replica(engine=engine(), **fields)})]


def with_funnel(offered: int, reused: int) -> list[RouterSnapshot]:
    """One that placed prompts of so many tokens."""
    funnel = Funnel(1, offered, reused, reused, reused, lost={Loss.NEW: offered - reused})
    (snapshot,) = routers()
    return [msgspec.structs.replace(snapshot, totals=Totals(by_rank={0: PromptTotals(funnel)}))]


def result(
    *, before: list[RouterSnapshot] | None = None, after: list[RouterSnapshot] | None = None, counted: Counted = NONE
) -> MixedRequests:
    """Of a run with nothing wrong, unless told otherwise."""
    exchanges = [
        Exchange("1", "chat", 0.0, outcome=Outcome.COMPLETE, status=200),
        Exchange("2", "chat", 0.0, outcome=Outcome.REFUSED, status=503),
    ]
    return MixedRequests(exchanges, before or routers(), after or routers(), NONE, counted)


OURS = with_funnel(1000, 320)
OUR_TOKENS = {"one": EngineTotals(1000, 320, 1100, 320, {"aborted_before_first_token": 100})}


@pytest.mark.parametrize(
    ("outcome", "faults"),
    [
        (result(), []),
        (result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 320)})), []),
        (
            result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1102, 320)})),
            ["differ by more than 0.1%", "2 tokens looked up without a cause"],
        ),
        (
            result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 300)})),
            ["differ by more than 0.1%", "0 tokens looked up without a cause, 320 reused, 300 found"],
        ),
        (
            result(after=with_funnel(990, 320), counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 320)})),
            ["10 tokens looked up without a cause"],
        ),
        (result(after=routers(pending_tokens=3)), ["counts outstanding requests at one"]),
        (result(after=routers("b")), ["were replaced"]),
        (result(after=[*routers(), *routers("b")]), ["were replaced"]),
    ],
)
def test_each_fault_is_told(outcome: MixedRequests, faults: list[str]) -> None:
    """Work left behind, totals that differ, members that changed."""
    told = outcome.faults()
    assert len(told) == len(faults)
    assert all(part in fault for part, fault in zip(faults, told, strict=True))


async def test_mixed_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind is sent, and the totals agree."""

    async def at_once(read: Any) -> Any:
        return await read()

    server: Any = FakeServer()

    async def read_counters(_: Any) -> dict[str, CacheCounters]:
        return {short_id(name): CacheCounters(tokens, 0) for name, tokens in server.prompt_tokens.items()}

    monkeypatch.setattr(mixed_requests, "settled", at_once)
    monkeypatch.setattr(mixed_requests, "read_counters", read_counters)
    mix = request_mix(len(KINDS) * 3, model="demo", seed=1, prefill_tokens=64)
    result = await mixed_requests.send_mix(server, mix, concurrency=6)
    assert result.faults() == []
    assert {each.kind for each in result.exchanges} == KINDS.keys()
    assert len({each.request_id for each in result.exchanges}) == len(KINDS) * 3
    assert {short_id(name) for name in server.pid_to_replica.values()} == result.agreements.keys()
    assert all(agreement.prompt.ours > 0 for agreement in result.agreements.values())
    assert len(orjson.dumps([each.as_json() for each in result.exchanges])) > 1000
