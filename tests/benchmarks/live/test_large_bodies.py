"""Bodies of exactly the size that is meant, their sender, and the ratios of latencies."""

import asyncio
from collections import Counter
from io import StringIO
from typing import Any

import httpx
import orjson
import pytest
from rich.console import Console

from benchmarks.harness.report import plain
from benchmarks.live.large_bodies.result import (
    MEASURES,
    MIB,
    Alongside,
    LargeBodiesOutcome,
    LatencyPhase,
    large_table,
    ordinary_table,
)
from benchmarks.live.large_bodies.sender import Burst, BurstSender, Sent, large_body, send_burst
from loadtests.client.answers import Outcome
from loadtests.client.exchange import Exchange

NOBODY_LISTENS = "http://127.0.0.1:1"


@pytest.mark.parametrize("num_bytes", [500, 100_000])
def test_a_large_body_is_a_chat_request_of_exactly_that_size(num_bytes: int) -> None:
    """As valid as any."""
    body = large_body("demo", num_bytes)
    assert len(body) == num_bytes
    assert orjson.loads(body)["messages"][0]["role"] == "user"


def test_the_two_sizes_are_on_either_side_of_the_limit() -> None:
    """With room for the headers."""
    sizes = [
        alongside.num_bytes(8 * MIB) for alongside in (Alongside.JUST_UNDER, Alongside.JUST_OVER, Alongside.NOTHING)
    ]
    assert sizes == [8_323_072, 8_454_144, None]


async def test_a_burst_tells_what_it_reached() -> None:
    """How many, how fast, and what came of them."""

    async def refuse(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(400)

    burst = Burst(1000, rate=100, seconds=0.1)
    sent = await send_burst(burst, "http://server", "demo", transport=httpx.MockTransport(refuse))
    assert 1 <= sent.num_sent <= 12
    assert sent.rate == pytest.approx(sent.num_sent / 0.1)
    assert sent.outcomes == {"400": sent.num_sent}
    assert len(sent.durations_s) == sent.num_sent
    assert sent.num_unsent == 0


async def test_the_sender_is_a_process_that_obeys() -> None:
    """One burst after another, in another process; nobody listens here."""
    with BurstSender(NOBODY_LISTENS, "demo") as sender:
        for _ in range(2):
            sent = await sender.send(Burst(1000, rate=20, seconds=0.1))
            assert sent.outcomes == {"no answer": sent.num_sent}
            assert sent.num_sent >= 1


def phase(
    alongside: Alongside, number: int, seconds: float, outcome: Outcome = Outcome.COMPLETE, **sent: Any
) -> LatencyPhase:
    """Ten equal requests; large bodies as told."""
    exchanges = [
        Exchange("1", "ordinary", 0.0, outcome=outcome, status=200, first_byte_s=seconds / 2, duration_s=seconds)
    ] * 10
    num_bytes = alongside.num_bytes(8 * MIB)
    if num_bytes is None:
        return LatencyPhase(alongside, number, exchanges, 0.01, None, Counter())
    burst = Burst(num_bytes, 10, 30)
    fields: dict[str, Any] = {"num_sent": 300, "num_unsent": 0, "max_late_s": 0.1, "cpu_share": 0.2} | sent
    reached = Sent(burst, **fields, outcomes={"400": 300}, durations_s=(0.2, 0.4))
    return LatencyPhase(alongside, number, exchanges, 0.01, reached, Counter(truncated_body=300))


def run(**sent: Any) -> LargeBodiesOutcome:
    """Two rounds: large bodies double the latency, then quadruple it."""
    return LargeBodiesOutcome(
        [
            phase(Alongside.NOTHING, 0, 0.1),
            phase(Alongside.JUST_UNDER, 0, 0.2, **sent),
            phase(Alongside.NOTHING, 1, 0.1),
            phase(Alongside.JUST_UNDER, 1, 0.4),
        ]
    )


def test_latency_is_compared_with_nothing_beside() -> None:
    """Over all rounds, and in each."""
    total = MEASURES["total"]
    assert run().ratio(Alongside.JUST_UNDER, total, 50, round_number=0) == pytest.approx(2)
    assert run().ratio(Alongside.JUST_UNDER, total, 50, round_number=1) == pytest.approx(4)
    assert run().ratio(Alongside.JUST_UNDER, total, 50) == pytest.approx(3)
    assert run().ratio(Alongside.JUST_UNDER, MEASURES["first byte"], 99) == pytest.approx(4)
    assert run().ratio(Alongside.JUST_OVER, total, 50) is None


def test_failed_requests_have_no_latency_and_are_told() -> None:
    """However long they took."""
    result = LargeBodiesOutcome([phase(Alongside.NOTHING, 0, 9, Outcome.CUT), phase(Alongside.JUST_UNDER, 0, 0.2)])
    assert result.ratio(Alongside.JUST_UNDER, MEASURES["total"], 50) is None
    assert result.faults() == ["10 ordinary requests failed: cut: 10"]


def test_a_sender_that_does_not_keep_up_is_told() -> None:
    """The figures would say too little."""
    assert run().faults() == []
    (fault,) = run(num_sent=150).faults()
    assert "only 5.0 a second of 10 were sent" in fault


def test_the_result_can_be_printed_and_kept() -> None:
    """Without an error, and with its figures."""
    console = Console(width=220, file=StringIO())
    with console.capture() as printed:
        console.print(ordinary_table(run()), large_table(run()))
    for part in ("complete: 20", "3.00", "(2.00-4.00)", "8,323,072 bytes", "truncated_body: 600", "10.0, 10.0", "20%"):
        assert part in printed.get()
    document = orjson.loads(orjson.dumps(plain(run())))
    assert document["phases"][1]["sent"]["outcomes"] == {"400": 300}
    assert len(document["phases"][0]["exchanges"]) == 10
