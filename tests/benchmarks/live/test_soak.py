"""A soak's traffic, its series and what is concluded from them."""

import csv
from collections import Counter
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from benchmarks.harness.report import plain
from benchmarks.harness.snapshots import EngineTotals
from benchmarks.live.soak.command import SoakOutcome, Tally, course_table, lines
from benchmarks.live.soak.samples import Course, Exclusions, Point, Recorder, ranks_by_short_id, router_series
from benchmarks.live.soak.traffic import MAX_TURNS, SoakTraffic, is_as_expected
from loadtests.client.answers import Outcome
from loadtests.client.exchange import Close, Exchange
from serve_app.messages.snapshot import RouterSnapshot
from tests.snapshots import engine, replica, router

ONE, TWO = "app#LLM#one", "app#LLM#two"


def drive(seed: int, count: int) -> list[dict[str, Any]]:
    """Every request is answered at once."""
    traffic, bodies = SoakTraffic("demo", seed=seed), []
    for request in islice(traffic.requests(), count):
        bodies.append({"id": request.request_id, "kind": request.kind, **orjson.loads(request.content)})
        traffic.on_end(Exchange(request.request_id, request.kind, 0.0, outcome=Outcome.COMPLETE))
    return bodies


def test_traffic_is_the_same_for_the_same_seed() -> None:
    """Given that answers come in the same order."""
    assert drive(1, 200) == drive(1, 200)
    assert drive(1, 200) != drive(2, 200)


def test_conversations_grow_turn_by_turn_and_end() -> None:
    """Each next turn begins with all of the last; every kind occurs."""
    bodies = drive(1, 600)
    assert {body["kind"] for body in bodies} == {"streaming", "whole", "aborted", "refused"}
    histories = {orjson.dumps(body["messages"]) for body in bodies}
    num_turns = Counter(len(body["messages"]) // 2 for body in bodies)
    assert num_turns.keys() == set(range(1, MAX_TURNS + 1))
    for body in bodies:
        assert [each["role"] for each in body["messages"]] == (
            ["system", "user"] + ["assistant", "user"] * (len(body["messages"]) // 2 - 1)
        )
        if len(body["messages"]) > 2:
            assert orjson.dumps(body["messages"][:-2]) in histories


def test_a_conversation_waits_for_its_answer() -> None:
    """While nothing is answered, every request begins another; what waits for ever does not pile up for ever."""
    traffic = SoakTraffic("demo", seed=1)
    for request in islice(traffic.requests(), 50):
        assert len(orjson.loads(request.content)["messages"]) == 2
    assert traffic.num_conversations == 50


def test_badly_behaved_requests_behave_badly() -> None:
    """An aborted one is closed after its first chunk, a refused one is of a wrong type."""
    kinds = {request.kind: request for request in islice(SoakTraffic("demo", seed=1).requests(), 200)}
    assert kinds["aborted"].close is Close.AFTER_FIRST_CHUNK
    assert kinds["streaming"].close is None
    assert orjson.loads(kinds["refused"].content)["temperature"] == "hot"
    assert "temperature" not in orjson.loads(kinds["whole"].content)


@pytest.mark.parametrize(
    ("kind", "outcome", "status", "expected"),
    [
        ("streaming", Outcome.COMPLETE, 200, True),
        ("streaming", Outcome.CUT, 200, False),
        ("whole", Outcome.REFUSED, 429, False),
        ("aborted", Outcome.CLOSED, 200, True),
        ("aborted", Outcome.NO_ANSWER, None, False),
        ("refused", Outcome.REFUSED, 400, True),
        ("refused", Outcome.REFUSED, 503, False),
        ("refused", Outcome.COMPLETE, 200, False),
    ],
)
def test_each_kind_has_an_end_that_is_right(*, kind: str, outcome: Outcome, status: int | None, expected: bool) -> None:
    """Everything else is a failure."""
    assert is_as_expected(Exchange("1", kind, 0.0, outcome=outcome, status=status)) is expected


def test_a_routers_numbers_are_summed_over_replicas() -> None:
    """And those that it has of itself."""
    replicas = {
        ONE: replica(0, pending_tokens=5, waiting=1, believed_blocks=10, excluded="silent"),
        TWO: replica(1, pending_tokens=7, running=2, believed_blocks=20),
    }
    decided = {"decisions": {"ring": 3, "prefix": 4}, "refused": {"full": 2}, "tasks": 9}
    assert router_series([router("a", replicas, **decided)]) == {
        "router a pending_tokens": 12,
        "router a waiting": 1,
        "router a running": 2,
        "router a believed_blocks": 30,
        "router a excluded": 1,
        "router a decisions": 7,
        "router a unreadable": 0,
        "router a refused": 2,
        "router a reservations_dropped": 0,
        "router a tasks": 9,
        "router a remembered": 0,
    }


def test_ranks_name_the_replicas_series() -> None:
    """By the ids that Serve lists."""
    assert ranks_by_short_id([router("a", {ONE: replica(0)}), router("b", {TWO: replica(1)})]) == {"one": 0, "two": 1}


def test_an_exclusion_counts_once_for_each_router() -> None:
    """However long it lasts; another cause, or the same again, counts anew."""
    exclusions = Exclusions()
    for cause in (None, "silent", "silent", "not_serving", None, "silent"):
        exclusions.look([router(name, {ONE: replica(0, excluded=cause), TWO: replica(1)}) for name in "ab"])
    assert exclusions.counts == {"rank 0 silent": 4, "rank 0 not_serving": 2}


def test_slope_and_change_are_those_of_the_second_half() -> None:
    """Warming up is not growth."""
    points = [Point(at * 360.0, value) for at, value in enumerate([0, 100, 200, 300, 400, 400, 402, 404, 406, 408])]
    course = Course.of("MiB router a", points)
    assert course.slope_per_hour == pytest.approx(20)
    assert course.change == 8
    assert course.quarters[0] == 0
    assert course.quarters[4] == 408
    assert Course.of("x", [Point(0, 5)]) == Course("x", (5, 5, 5, 5, 5), 0, 0, "▁")


def test_every_value_is_in_the_file_at_once(tmp_path: Path) -> None:
    """A soak that is ended early has its samples."""
    path = tmp_path / "soak.csv"
    with Recorder(path) as recorder:
        recorder.record(0, {"router a waiting": 1, "MiB haproxy": 20.5})
        recorder.record(10, {"router a waiting": 2})
        rows = list(csv.reader(path.read_text().splitlines()))
        courses = recorder.courses()
    assert rows == [
        ["seconds", "series", "value"],
        ["0.0", "router a waiting", "1"],
        ["0.0", "MiB haproxy", "20.5"],
        ["10.0", "router a waiting", "2"],
    ]
    assert [(course.name, course.quarters[0], course.quarters[4]) for course in courses] == [
        ("MiB haproxy", 20.5, 20.5),
        ("router a waiting", 1, 2),
    ]


def soaked(*, failed: bool = False, num_unsent: int = 0, waiting: int = 0) -> SoakOutcome:
    """A run with nothing wrong, unless told otherwise."""
    tally = Tally()
    tally.add([Exchange("1", "streaming", 0.0, outcome=Outcome.COMPLETE, status=200)])
    if failed:
        tally.add([Exchange("2", "whole", 0.0, outcome=Outcome.REFUSED, status=503)])
    after: list[RouterSnapshot] = [router("a", {ONE: replica(engine=engine(prompt=300, cached=150, waiting=waiting))})]
    courses = [Course.of("MiB router a", [Point(0, 100), Point(10, 110), Point(20, 130)])]
    before = {"one": EngineTotals(100, 50, 100, 50, {})}
    return SoakOutcome(20, tally, num_unsent, courses, Counter({"rank 0 silent": 1}), before, after)


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (soaked(), None),
        (soaked(failed=True), "requests ended as they should not: whole 503: 1"),
        (soaked(num_unsent=3), "3 requests were not sent"),
        (soaked(waiting=1), "not idle at the end"),
    ],
)
def test_each_fault_is_told(result: SoakOutcome, fault: str | None) -> None:
    """Growth is for a person to judge."""
    faults = result.faults()
    assert len(faults) == (fault is not None)
    assert fault is None or fault in faults[0]


def test_the_result_can_be_printed_and_kept() -> None:
    """Without an error, and with its figures."""
    console = Console(width=200, file=StringIO())
    with console.capture() as printed:
        console.print(course_table(soaked().courses))
    for part in ("MiB router a", "+7,200.0", "+20.0", "▁"):
        assert part in printed.get()
    text = "\n".join(lines(soaked(failed=True)))
    for part in ("2 requests in 20 s", "Failed: whole 503: 1", "rank 0 silent: 1", "200 prompt tokens, hit rate 50.0%"):
        assert part in text
    assert plain(soaked())["tally"]["outcomes"] == {"streaming complete": 1}
