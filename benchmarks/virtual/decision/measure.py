"""One run of a situation."""

from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.virtual.decision.disturbances import aftermath, disturbed
from benchmarks.virtual.decision.mixes import MIXES
from benchmarks.virtual.decision.situation import Cell, Changes, Figures, Situation
from loadtests.replay.engine import EngineOptions
from loadtests.replay.generators import GENERATORS, generate
from loadtests.replay.results import Replay, summarize
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.workload import AskedRequests, ReplayWorkload, make_requests

THINK_S = 1.0
"""Seconds between turns, where a trace does not say."""


def measure(cell: Cell, *, traces: Path) -> Figures:
    """Run it.

    Raises:
        TraceError: its trace is not in the folder `traces`, or not as it should be.

    """
    scenario = make_scenario(cell, make_asked(cell, traces=traces))
    run = Simulation(scenario).run()
    return _figures(aftermath(run, scenario) if cell.situation.disturbance else run, cell.situation)


def make_asked(cell: Cell, *, traces: Path) -> AskedRequests:
    """The requests."""
    situation = cell.situation
    if situation.workload in GENERATORS:
        generator = GENERATORS[situation.workload]
        requests = generate(situation.workload, seed=cell.seed, rate=situation.load, duration_s=cell.duration_s)
        asked = AskedRequests(requests, generator.block_size, is_closed_loop=generator.is_closed_loop)
    else:
        asked = _recorded(situation, traces, seed=cell.seed)
    return asked if situation.answer_factor == 1 else _with_answers(asked, situation.answer_factor)


def make_scenario(cell: Cell, asked: AskedRequests) -> Scenario:
    """Engines, routers and what they are told; prompts wait in order of arrival, as behind every rival as shipped."""
    situation = cell.situation
    engine = _engine(situation).model_copy(update={"waiting_order": "arrival"})
    told_kv_tokens = round(situation.told_factor * situation.kv_tokens) if situation.told_factor != 1 else None
    scenario = Scenario(
        asked.requests,
        num_replicas=situation.num_replicas,
        num_routers=situation.num_routers,
        seed=cell.seed,
        engine=engine,
        rank_to_engine={rank: _changed(engine, changes) for rank, changes in situation.rank_to_engine},
        told_engine=EngineOptions() if situation.is_told_usual_speed else None,
        told_kv_tokens=told_kv_tokens,
        delay_s=situation.delay_s,
        is_closed_loop=asked.is_closed_loop,
        is_asking=False,
        sample_s=None,
        block_size=asked.block_size,
        policy=cell.policy,
    )
    return disturbed(scenario, situation.disturbance) if situation.disturbance else scenario


def _recorded(situation: Situation, traces: Path, *, seed: int) -> AskedRequests:
    workload = ReplayWorkload(
        traces / f"{situation.workload}.jsonl.zst",
        is_closed_loop=False,  # sessions are closed-loop whatever is said here
        is_spread_evenly=False,
        think_s=THINK_S,
        num_copies=situation.num_copies,
        tenants=(),
    )
    pace = situation.load * situation.num_replicas * _engine(situation).prefill_tokens_per_s
    asked = make_requests(workload, prompt_tokens_per_s=pace, seed=seed)
    if not situation.mix:
        return asked
    mixed = MIXES[situation.mix](asked.requests, pace, Random(f"{situation.mix} {seed}"))
    return replace(asked, requests=tuple(mixed))


def _with_answers(asked: AskedRequests, factor: float) -> AskedRequests:
    """The requests with answers that many times as long as recorded."""
    requests = (
        replace(request, num_output_tokens=max(1, round(factor * request.num_output_tokens)))
        for request in asked.requests
    )
    return replace(asked, requests=tuple(requests))


def _engine(situation: Situation) -> EngineOptions:
    return _changed(EngineOptions(kv_capacity_tokens=situation.kv_tokens), situation.engine)


def _changed(engine: EngineOptions, changes: Changes) -> EngineOptions:
    return EngineOptions.model_validate({**engine.model_dump(), **dict(changes)})


def _figures(run: Replay, situation: Situation) -> Figures:
    summary = summarize(run, num_replicas=situation.num_replicas)
    return Figures(summary.mean_ttft_s, summary.p99_ttft_s, summary.mean_answer_s, summary.hit_rate)
