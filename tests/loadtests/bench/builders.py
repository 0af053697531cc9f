"""Builds plans, traffic and hand-made results."""

from typing import Any

from loadtests.bench.plan import BenchCell, BenchPlan
from loadtests.bench.records import Capacity, CellResult, Results, SentTurn
from loadtests.bench.traffic import NamedWorkload, read_traffic
from loadtests.client.answers import EventStream, Outcome
from loadtests.workloads import Session, Turn
from loadtests.workloads.session import SessionKind


def plan(**fields: Any) -> BenchPlan:
    """Two workloads of the project's own, two loads, two routings, three repetitions."""
    given: dict[str, Any] = {
        "workloads": read_traffic(["chat"]),
        "loads": (0.5, 1.2),
        "routings": ("prefix_affinity", "round_robin"),
        "repetitions": 3,
        "num_requests": 10,
        "seed": 1,
        "think_scale": 0.0,
        "answer_scale": 1.0,
        "ttft_slo_s": 1.0,
        "capacity_s": 1.5,
        **fields,
    }
    return BenchPlan(**given)


def session(name: str, *, turns: int = 2, think_s: float = 0.0) -> Session:
    """With answers of one token."""
    body = {"messages": [], "max_tokens": 1, "stream": True, "stream_options": {"include_usage": True}}
    return Session(name, SessionKind.CHAT, tuple(Turn(body, think_s if number else 0.0) for number in range(turns)))


def record(
    *,
    ttft_s: float | None = 0.5,
    end_to_end_s: float = 1.0,
    prompt_tokens: int = 100,
    cached_tokens: int = 0,
    **fields: Any,
) -> SentTurn:
    """Complete, within a second, from a cold cache."""
    stream = EventStream()
    stream.prompt_tokens, stream.cached_tokens = prompt_tokens, cached_tokens
    given: dict[str, Any] = {
        "request_id": "s-0",
        "kind": "chat",
        "started_s": 0.0,
        "session": "s",
        "turn": 0,
        "due_s": 0.0,
        "late_s": 0.001,
        "outcome": Outcome.COMPLETE,
        "status": 200,
        "replica": "r0",
        "reason": "ring",
        "first_byte_s": ttft_s,
        "duration_s": end_to_end_s,
        "stream": stream,
        **fields,
    }
    return SentTurn(**given)


def result(routing: str, repetition: int = 0, *, ttft_s: float = 0.5, load: float = 0.5, **fields: Any) -> CellResult:
    """Of one request, unless other records are given."""
    given: dict[str, Any] = {
        "num_replicas": 2,
        "duration_s": 10.0,
        "setup_s": 1.0,
        "records": [record(ttft_s=ttft_s)],
        **fields,
    }
    return CellResult(BenchCell("chat", load, routing, repetition), **given)


def results(cells: list[CellResult], *, engine: str = "vllm", ended_early: str = "") -> Results:
    """With a capacity for the workload."""
    return Results([Capacity("chat", 16, 20.0, 3000.0, 2.0)], cells, engine, ended_early)


def chat() -> NamedWorkload:
    """The project's own conversations."""
    return read_traffic(["chat"])[0]
