"""What is concluded from killed processes and refused requests."""

import json
from collections import Counter
from io import StringIO
from typing import Any

import msgspec
import orjson
import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.harness import processes
from benchmarks.harness.load import Load
from benchmarks.harness.report import plain
from benchmarks.live.failures import engine_result, overload, router_result
from benchmarks.live.failures.ownership import Handover, handover, random_keys
from benchmarks.live.failures.router_result import Kill, Look
from benchmarks.live.failures.sightings import Recovery, recoveries, sighting
from loadtests.client.answers import Outcome
from loadtests.client.exchange import Exchange
from serve_app.messages.snapshot import RouterSnapshot
from tests.snapshots import replica, router

DEAD, OTHER, NEW = "app#LLM#dead", "app#LLM#other", "app#LLM#new"
VIRTUAL_NODES = 128


def printed(*tables: Table) -> str:
    """Tables as text."""
    console = Console(width=200, file=StringIO())
    with console.capture() as text:
        for table in tables:
            console.print(table)
    return text.get()


def written(outcome: object) -> Any:
    """An outcome as a JSON file has it."""
    return json.loads(json.dumps(plain(outcome), default=msgspec.to_builtins))


def request(
    started_s: float,
    duration_s: float = 1.0,
    outcome: Outcome | None = Outcome.COMPLETE,
    **fields: Any,
) -> Exchange:
    """A request's record."""
    ended = None if outcome is None else duration_s
    return Exchange("1", fields.pop("kind", "short"), started_s, outcome=outcome, duration_s=ended, **fields)


def test_a_replacement_of_the_same_rank_takes_over_exactly_the_keys() -> None:
    """Nobody else's keys move."""
    before, after = {0: DEAD, 1: OTHER}, {0: NEW, 1: OTHER}
    change = handover(before, after, random_keys(1), dead=DEAD, virtual_nodes=VIRTUAL_NODES)
    assert 3000 < change.num_owned_by_dead < 7000
    assert change.is_exact(dead=DEAD, replacement=NEW)
    assert not change.is_exact(dead=DEAD, replacement=OTHER)


@pytest.mark.parametrize("after", [{1: OTHER, 2: NEW}, {0: OTHER, 1: NEW}, {1: OTHER}, {0: NEW, 1: OTHER, 2: "third"}])
def test_any_other_rank_moves_other_keys(after: dict[int, str]) -> None:
    """A new rank, swapped ranks, nobody, or one too many."""
    change = handover({0: DEAD, 1: OTHER}, after, random_keys(1), dead=DEAD, virtual_nodes=VIRTUAL_NODES)
    assert not change.is_exact(dead=DEAD, replacement=NEW)


def test_nothing_moved_is_no_takeover() -> None:
    """When the dead replica owned nothing, nothing was shown."""
    assert not Handover(0, Counter()).is_exact(dead=DEAD, replacement=NEW)


def test_each_router_gets_over_a_loss_in_its_own_time() -> None:
    """Excluded first, then gone, then replaced; one router never sees the replacement."""
    alive = {DEAD: replica(0), OTHER: replica(1)}
    silent = {DEAD: replica(0, excluded="silent"), OTHER: replica(1)}
    alone = {OTHER: replica(1)}
    joining = {OTHER: replica(1), NEW: replica(0, excluded="silent")}
    whole = {OTHER: replica(1), NEW: replica(0)}
    seen = [
        sighting(at_s, [router("a", a), router("b", b)])
        for at_s, a, b in [
            (9, silent, alive),  # before the kill: nothing to do with it
            (10.5, alive, silent),
            (11, silent, silent),
            (13, alone, alone),
            (60, joining, alone),
            (61, whole, alone),
            (62, whole, alone),
        ]
    ]
    assert recoveries(seen, dead=DEAD, known_before=(DEAD, OTHER), rank=0, killed_s=10) == {
        "a": Recovery(1, "silent", 3, 51, NEW),
        "b": Recovery(0.5, "silent", 3, None, None),
    }


def test_a_replica_may_vanish_without_being_excluded_first() -> None:
    """And a newcomer of another rank replaces nobody."""
    seen = [sighting(12, [router("a", {OTHER: replica(1), NEW: replica(2)})])]
    found = recoveries(seen, dead=DEAD, known_before=(DEAD, OTHER), rank=0, killed_s=10)
    assert found == {"a": Recovery(2, "gone", 2, None, None)}


BEFORE: list[RouterSnapshot] = [router("a", {DEAD: replica(0), OTHER: replica(1)})]
AFTER: list[RouterSnapshot] = [router("a", {NEW: replica(0), OTHER: replica(1)})]
RECOVERED = {"a": Recovery(1.0, "silent", 2.0, 60.0, NEW)}
EXACT = {"a": Handover(5000, Counter({(DEAD, NEW): 5000}))}


def engine_run(**changes: Any) -> engine_result.EngineDeathOutcome:
    """A run with nothing wrong, unless told otherwise."""
    background = Load(
        [
            request(9.5, replica=DEAD, outcome=Outcome.CUT),
            request(9.8, replica=OTHER),
            request(10.5, 0.5, Outcome.REFUSED, status=500, replica=DEAD),
            request(11.5, replica=OTHER, routed_to=DEAD),
            request(20, replica=OTHER),
        ]
    )
    streams = [request(1, 9.2, Outcome.ERROR_EVENT, replica=DEAD), request(1, 200, replica=OTHER)]
    fields: dict[str, Any] = {
        "dead": DEAD,
        "rank": 0,
        "killed_s": 10.0,
        "streams": streams,
        "background": background,
        "routers_before": BEFORE,
        "routers_after": AFTER,
        "recoveries": RECOVERED,
        "handovers": EXACT,
        "is_engine_orphaned": False,
    }
    return engine_result.EngineDeathOutcome(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"streams": [request(1, 9, Outcome.CUT, replica=OTHER)]}, "1 streams failed that the killed replica did not"),
        ({"streams": [request(1, outcome=None, replica=OTHER)]}, "1 streams failed that the killed replica did not"),
        ({"streams": [request(1, 9, Outcome.NO_ANSWER)]}, "1 streams failed that the killed replica did not"),
        ({"recoveries": {}}, "never saw a replacement of rank 0"),
        ({"recoveries": {"a": Recovery(1.0, "silent", 2.0)}}, "never saw a replacement of rank 0"),
        ({"handovers": {}}, "no replica has rank 0 at the end"),
        ({"handovers": {"a": Handover(5000, Counter({(DEAD, NEW): 4999}))}}, "other keys changed owner"),
        ({"routers_after": [router("a", {NEW: replica(0, waiting=1)})]}, "not idle at the end"),
    ],
)
def test_a_killed_engine_may_cost_its_own_streams_and_nothing_else(changes: dict[str, Any], fault: str | None) -> None:
    """Each thing that must not be is told."""
    faults = engine_run(**changes).faults()
    assert len(faults) == (fault is not None)
    assert fault is None or fault in faults[0]


def test_seconds_are_counted_from_the_kill() -> None:
    """Failures, and answers that the dead replica gave or was meant to give; what was under way is apart."""
    run = engine_run()
    assert [each.started_s for each in run.in_flight] == [9.5, 9.8]
    assert [each.started_s for each in run.new] == [10.5, 11.5, 20]
    assert run.last_s(lambda each: not each.is_complete) == 1.0
    assert run.last_s(run.concerns_dead) == 2.5
    assert run.last_s(lambda each: each.status == 503) is None


def test_the_engine_experiments_result_can_be_printed_and_kept() -> None:
    """Without an error, and with its figures."""
    plan = engine_result.EngineDeathPlan(
        engine_result.Victim.ENGINE, None, 2, 10, 150, 2, 5, 900, keep_alive=False, seed=1
    )
    text = printed(engine_result.summary(engine_run(), plan))
    for part in ("error event: 1", "not eligible any more (silent)", "replaced by new", "60.0 s", "2.5 s", "5000"):
        assert part in text
    document = written(engine_run())
    assert document["handovers"]["a"]["moved"] == {f"{DEAD} -> {NEW}": 5000}
    assert len(document["background"]["exchanges"]) == 5


def look(at_s: float, running: str, answering: str) -> Look:
    """Routers are letters."""
    return Look(at_s, frozenset(running), frozenset(answering))


LOOKS = [look(9, "ab", "ab"), look(11, "ab", "b"), look(12, "bc", "b"), look(13, "bc", "bc"), look(14, "bc", "bc")]


def test_routers_are_back_when_they_run_and_answer_without_the_killed() -> None:
    """Serve lists a dead one for a while, and a new one before it can answer."""
    assert Kill(10, ("a",)).recovered_after_s(LOOKS, 2) == 3
    assert Kill(10, ("a", "b")).recovered_after_s(LOOKS, 2) is None
    assert Kill(13.5, ()).recovered_after_s(LOOKS, 2) == 0.5


def router_run(**changes: Any) -> router_result.RouterDeathOutcome:
    """One router killed at 10 s."""
    fields: dict[str, Any] = {
        "started_s": 0.0,
        "num_routers": 2,
        "kills": [Kill(10, ("a",))],
        "looks": LOOKS,
        "exchanges": [
            request(1, reason="ring"),
            request(4, reason="prefix"),
            request(9.5, reason="spill"),
            request(10.2, reason="unrouted"),
            request(10.4, 0.1, Outcome.REFUSED, status=503),
            request(11, 2, Outcome.NO_ANSWER),
            request(12, reason="ring"),
            request(13, reason="no_key"),
        ],
        "routers_after": [router("b", {OTHER: replica()}), router("c", {OTHER: replica()})],
    }
    return router_result.RouterDeathOutcome(**fields | changes)


def test_requests_are_counted_by_the_time_they_were_sent() -> None:
    """Those that were answered count for the share that was placed by key."""
    buckets = router_run().buckets(bucket_s=5)
    assert [(each.start_s, each.num_sent, each.num_failed, each.num_unrouted, each.num_keyed) for each in buckets] == [
        (0, 2, 0, 0, 2),
        (5, 1, 0, 0, 1),
        (10, 5, 2, 1, 1),
    ]
    assert buckets[2].keyed_share == pytest.approx(1 / 3)


def test_each_kill_has_the_requests_up_to_the_next() -> None:
    """Those under way at the kill included."""
    run = router_run(kills=[Kill(10, ("a",)), Kill(12.5, ("b", "c"))])
    assert [each.started_s for each in run.after_kill(0)] == [9.5, 10.2, 10.4, 11, 12]
    assert [each.started_s for each in run.after_kill(1)] == [11, 12, 13]


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, []),
        ({"exchanges": [request(11, 2, Outcome.NO_ANSWER), request(12)]}, ["1 requests failed"]),
        ({"looks": LOOKS[:3]}, ["2 routers were not back after a had been killed"]),
        ({"routers_after": [router("b", {OTHER: replica()})]}, ["1 routers answer at the end, 2 did before"]),
        ({"routers_after": [router(name, {OTHER: replica(running=1)}) for name in "bc"]}, ["not idle at the end"]),
    ],
)
def test_no_request_is_lost_and_routers_come_back_and_are_idle(changes: dict[str, Any], faults: list[str]) -> None:
    """Each fault in words."""
    told = router_run(**{"exchanges": [request(12, reason="unrouted")], **changes}).faults()
    assert len(told) == len(faults)
    assert all(part in fault for part, fault in zip(faults, told, strict=True))


def test_the_router_experiments_result_can_be_printed_and_kept() -> None:
    """Without an error, and with its figures."""
    text = printed(router_result.summary(router_run()), router_result.over_time(router_run()))
    for part in ("503: 1, complete: 4, no answer: 1", "0.5 s", "3.0 s", "33.3%", "killed at 10.0 s"):
        assert part in text
    document = written(router_run())
    assert document["kills"] == [{"at_s": 10, "router_ids": ["a"]}]
    assert document["looks"][0] == {"at_s": 9, "running": ["a", "b"], "answering": ["a", "b"]}


def refusal(kind: str, shape: str, retry_after: str | None = "1") -> Exchange:
    """A 429."""
    fields: dict[str, Any] = {"kind": kind, "error_shape": shape, "retry_after": retry_after, "status": 429}
    return request(1, 0.1, Outcome.REFUSED, **fields)


ACCEPTED = request(0, 3, kind="chat", first_byte_s=2.0)
REFUSED = [refusal("chat", "openai"), refusal("message", "anthropic"), refusal("completion", "openai")]
IDLE: list[RouterSnapshot] = [router("a", {OTHER: replica()}, refused={"full": 5})]


@pytest.mark.parametrize(
    ("exchanges", "after", "faults"),
    [
        ([ACCEPTED, *REFUSED], IDLE, []),
        ([ACCEPTED], IDLE, ["nothing was refused"]),
        ([*REFUSED, request(0, outcome=Outcome.CUT)], IDLE, ["1 requests failed otherwise: cut: 1"]),
        ([*REFUSED, request(0, outcome=Outcome.REFUSED, status=503)], IDLE, ["1 requests failed otherwise: 503: 1"]),
        ([refusal("chat", "openai", None)], IDLE, ["1 refusals had no Retry-After"]),
        ([refusal("message", "openai")], IDLE, ["another API's shape: message: openai: 1"]),
        (REFUSED, [router("a", {OTHER: replica(pending_tokens=1)})], ["not idle at the end"]),
    ],
)
def test_refusals_must_be_ones_that_clients_understand(
    exchanges: list[Exchange], after: list[RouterSnapshot], faults: list[str]
) -> None:
    """And nothing else may fail."""
    told = overload.OverloadOutcome(exchanges, Counter(), after).faults()
    assert len(told) == len(faults)
    assert all(part in fault for part, fault in zip(faults, told, strict=True))


def test_the_overloads_result_can_be_printed_and_kept() -> None:
    """Statuses, waits, shapes and times for each API; the routers' own count since the start."""
    result = overload.OverloadOutcome([ACCEPTED, *REFUSED], Counter({"a full": 2}), IDLE)
    text = printed(overload.summary(result))
    for part in ("429: 1, complete: 1", "1 s: 1", "anthropic: 1", "2,000", "3,000"):
        assert part in text
    assert overload.refused_by_routers(result) == "a full: 3"
    assert len(written(result)["exchanges"]) == 4


def test_overload_asks_each_api_in_turn_in_its_own_words() -> None:
    """The same for the same seed."""
    plan = overload.OverloadPlan(20, 600, 10, prompt_words=5, answer_tokens=2, seed=1)
    drawn = [next(each) for each in [overload.long_requests("demo", plan)] for _ in range(4)]
    assert [each.kind for each in drawn] == ["chat", "message", "completion", "chat"]
    assert [sorted(orjson.loads(each.content).keys() & {"messages", "prompt"}) for each in drawn[1:3]] == [
        ["messages"],
        ["prompt"],
    ]
    again = overload.long_requests("demo", plan)
    assert [next(again) for _ in range(4)] == drawn


@pytest.mark.parametrize(
    ("command_line", "is_actor", "is_engine", "is_haproxy"),
    [
        (["ray::ServeReplica:warmroute:LLMReplica"], True, False, False),
        (["VLLM::EngineCore"], False, True, False),
        (["/opt/haproxy", "-db", "-f", "/tmp/warmroute-x/haproxy.cfg"], False, False, True),  # noqa: S108
        (["/opt/haproxy", "-db", "-f", "/etc/haproxy.cfg"], False, False, False),
        (["python", "-c", "from multiprocessing.resource_tracker import main"], False, False, False),
        ([], False, False, False),
    ],
)
def test_processes_are_told_by_their_titles(
    *, command_line: list[str], is_actor: bool, is_engine: bool, is_haproxy: bool
) -> None:
    """Before anything is killed."""
    assert processes.is_actor(command_line) is is_actor
    assert processes.is_engine(command_line) is is_engine
    assert processes.is_haproxy(command_line, "/tmp/warmroute-x") is is_haproxy  # noqa: S108


def test_a_process_that_is_no_actor_is_not_touched() -> None:
    """A pid may have been given to somebody else."""
    with pytest.raises(processes.ProcessError, match="process 1 "):
        processes.actor(1)
