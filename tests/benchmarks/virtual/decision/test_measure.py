"""Situations are what they say, and a run of one gives numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from benchmarks.virtual.decision.measure import make_asked, make_scenario, measure
from benchmarks.virtual.decision.situation import Cell, Situation, Table
from benchmarks.virtual.decision.situations import HALF_SPEED, MIXED_KV, QUADRATIC, all_situations
from loadtests.replay.engine import EngineOptions
from loadtests.replay.generators import GENERATORS
from loadtests.replay.simulation import Scenario
from loadtests.replay.trace import TraceError
from tests.loadtests.replay.traces import write_conversations, write_sessions

BURST = Situation(Table.WORKLOADS, "burst", "burst", 1.0, 4, 40_000)
NOWHERE = Path("/nowhere")


def cell(situation: Situation) -> Cell:
    """Its first run."""
    return Cell(situation, "least_loaded", seed=1, duration_s=30)


def test_names_are_unique_and_workloads_known() -> None:
    """Every table has some."""
    situations = all_situations()
    assert len({(each.table, each.name) for each in situations}) == len(situations)
    assert {each.table for each in situations} == set(Table)
    assert len({repr(Cell(each, "", 1, 1).parameters()) for each in situations if each.table is Table.TRACES}) == len(
        [each for each in situations if each.table is Table.TRACES]
    )
    made = {each.workload for each in situations if each.table is Table.WORKLOADS}
    assert made == set(GENERATORS) - {"agents"}


def test_a_cell_runs() -> None:
    """The same twice."""
    first, second = (measure(cell(BURST), traces=NOWHERE) for _ in range(2))
    assert first == second
    assert 0 < first.mean_ttft_s <= first.p99_ttft_s < first.mean_answer_s
    assert 0.4 < first.hit_rate < 1


def test_one_engine_at_half_speed() -> None:
    """Every constant of its steps; the others keep theirs."""
    scenario = make_run(replace(BURST, rank_to_engine=((0, HALF_SPEED),)))
    slow, usual = scenario.rank_to_engine[0], scenario.engine
    assert slow.step_s == 2 * usual.step_s
    assert slow.decode_s == 2 * usual.decode_s
    assert slow.decode_context_s == 2 * usual.decode_context_s
    assert slow.prefill_tokens_per_s == usual.prefill_tokens_per_s / 2
    assert slow.kv_capacity_tokens == 40_000


def test_mixed_memories_are_as_much_in_all() -> None:
    """Eight times 500,000."""
    own = [dict(changes)["kv_capacity_tokens"] for _, changes in MIXED_KV]
    assert sum(own) + (8 - len(own)) * 500_000 == 8 * 500_000


def test_attention_doubles_the_cost_of_a_prompt_of_32k() -> None:
    """Half of all pairs of its tokens are looked at."""
    engine = EngineOptions.model_validate(dict(QUADRATIC))
    assert 32_768**2 / 2 * engine.attention_s == pytest.approx(32_768 / engine.prefill_tokens_per_s)


def test_what_routers_are_told() -> None:
    """Another capacity, and the default's speed instead of the engines'."""
    situation = replace(BURST, told_factor=0.5, engine=(("step_s", 0.02),), is_told_usual_speed=True)
    scenario = make_run(situation)
    assert scenario.told_kv_tokens == 20_000
    assert scenario.engine.step_s == 0.02
    assert scenario.told_engine is not None
    assert scenario.told_engine.step_s == EngineOptions().step_s


def test_all_engines_have_vllms_own_waiting_order() -> None:
    """Also those with changes of their own, whatever the settings' default is."""
    scenario = make_run(replace(BURST, rank_to_engine=((0, HALF_SPEED),)))
    assert scenario.rank_to_engine[0].waiting_order == scenario.engine.waiting_order == "arrival"


def compress(path: Path) -> None:
    """As the folder of traces has them."""
    path.with_name(f"{path.name}.zst").write_bytes(zstandard.compress(path.read_bytes()))


def test_recorded_traces_come_from_the_folder(tmp_path: Path) -> None:
    """At the load, with answers as long as wanted; sessions are copied and closed-loop."""
    compress(write_conversations(tmp_path / "talks.jsonl"))
    talks = Situation(Table.TRACES, "talks", "talks", 0.5, num_replicas=2)
    asked, longer = (make_asked(cell(replace(talks, answer_factor=factor)), traces=tmp_path) for factor in (1.0, 5.0))
    prompt_tokens = sum(each.num_prompt_tokens for each in asked.requests)
    assert asked.span_s == pytest.approx(prompt_tokens / (0.5 * 2 * 10_000))
    assert not asked.is_closed_loop
    assert [each.num_output_tokens for each in longer.requests] == [
        5 * each.num_output_tokens for each in asked.requests
    ]
    compress(write_sessions(tmp_path / "turns.jsonl"))
    turns = make_asked(cell(replace(talks, workload="turns", num_copies=3)), traces=tmp_path)
    assert (turns.is_closed_loop, turns.block_size, len(turns.requests)) == (True, 16, 3 * 18)


def test_a_mix_changes_the_prompts_of_a_trace(tmp_path: Path) -> None:
    """By its name; where nothing is shared, nothing hits."""
    compress(write_conversations(tmp_path / "talks.jsonl"))
    talks = Situation(Table.ROBUSTNESS, "talks", "talks", 0.3, num_replicas=2)
    usual, unshared = (measure(cell(replace(talks, mix=mix)), traces=tmp_path) for mix in ("", "nothing shared"))
    assert usual.hit_rate > unshared.hit_rate == 0


def test_a_disturbance_changes_the_run_and_only_its_aftermath_counts(tmp_path: Path) -> None:
    """A router that adopts its peer's state knows all; two that start empty have lost what they knew."""
    compress(write_conversations(tmp_path / "talks.jsonl"))
    talks = Situation(Table.ROUTERS, "talks", "talks", 0.3, num_replicas=2, num_routers=2)
    names = (
        "undisturbed",
        "one router replaced, which adopts its peer's state",
        "both routers replaced, which start empty",
    )
    undisturbed, adopted, empty = (
        measure(replace(cell(replace(talks, disturbance=name)), policy="prefix_affinity"), traces=tmp_path)
        for name in names
    )
    assert adopted == undisturbed
    assert empty.hit_rate < undisturbed.hit_rate


def test_a_trace_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(TraceError, match=r"nothing\.jsonl\.zst"):
        make_asked(cell(replace(BURST, workload="nothing")), traces=tmp_path)


def make_run(situation: Situation) -> Scenario:
    """Its first run, prepared."""
    return make_scenario(cell(situation), make_asked(cell(situation), traces=NOWHERE))
