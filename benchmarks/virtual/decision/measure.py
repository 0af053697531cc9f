"""One run of a situation."""

import time
from dataclasses import replace
from pathlib import Path

from benchmarks.virtual.decision.situation import Cell, CellFigures, Changes, Situation
from loadtests.replay.engine import EngineOptions
from loadtests.replay.generators import GENERATORS, generate
from loadtests.replay.results import Replay, summarize
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.workload import AskedRequests, ReplayWorkload, make_requests

THINK_S = 1.0
"""Seconds between turns, where a trace does not say."""


def measure(cell: Cell, *, traces: Path) -> CellFigures:
    """Run it.

    Raises:
        TraceError: its trace is not in the folder `traces`, or not as it should be.

    """
    started_s = time.perf_counter()
    asked = make_asked(cell, traces=traces)
    run = Simulation(make_scenario(cell, asked)).run()
    return _result(run, cell.situation, real_s=time.perf_counter() - started_s)


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
    """Engines, routers and what they are told."""
    situation = cell.situation
    engine = _engine(situation).model_copy(update={"waiting_order": cell.waiting_order})
    told_kv_tokens = round(situation.told_factor * situation.kv_tokens) if situation.told_factor != 1 else None
    return Scenario(
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
    return make_requests(workload, prompt_tokens_per_s=pace, seed=seed)


def _with_answers(asked: AskedRequests, factor: float) -> AskedRequests:
    """The requests with answers that many times as long as recorded."""
    requests = (
        replace(each, num_output_tokens=max(1, round(factor * each.num_output_tokens))) for each in asked.requests
    )
    return replace(asked, requests=tuple(requests))


def _engine(situation: Situation) -> EngineOptions:
    return _changed(EngineOptions(kv_capacity_tokens=situation.kv_tokens), situation.engine)


def _changed(engine: EngineOptions, changes: Changes) -> EngineOptions:
    return EngineOptions.model_validate({**engine.model_dump(), **dict(changes)})


def _result(run: Replay, situation: Situation, *, real_s: float) -> CellFigures:
    summary = summarize(run, num_replicas=situation.num_replicas)
    return CellFigures(
        mean_ttft_s=summary.mean_ttft_s,
        p99_ttft_s=summary.p99_ttft_s,
        mean_answer_s=summary.mean_answer_s,
        p99_answer_s=summary.p99_answer_s,
        hit_rate=summary.hit_rate,
        num_requests=len(run.records),
        real_s=round(real_s, 2),
    )
