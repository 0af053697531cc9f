"""Results in a file, found again by what they depend on."""

from dataclasses import replace
from pathlib import Path

from benchmarks.virtual.decision.kept import append_result, end_last_line, key, read_results
from benchmarks.virtual.decision.situation import Cell, CellFigures, Situation, Table

SITUATION = Situation(Table.ROBUSTNESS, "a", "reasoning", 1.0, rank_to_engine=((0, (("step_s", 0.02),)),))
CELL = Cell(SITUATION, "lmetric", seed=1, duration_s=60)
RESULT = CellFigures(0.1, 0.2, 3.0, 4.0, 0.5, num_requests=6, real_s=7.0)


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    """By parameters, policy, seed and tag, whatever the table and name."""
    path = tmp_path / "results.jsonl"
    assert read_results(path) == {}
    append_result(path, CELL, "one", RESULT)
    found = read_results(path)
    assert found[key(CELL, "one")] == RESULT
    renamed = replace(CELL, situation=replace(SITUATION, table=Table.TRACES, name="b"))
    assert key(renamed, "one") in found
    others = [replace(CELL, seed=2), replace(CELL, policy="chwbl"), replace(CELL, duration_s=61.0)]
    others += [replace(CELL, situation=replace(SITUATION, rank_to_engine=())), replace(CELL, waiting_order="shortest")]
    assert not any(key(other, "one") in found for other in others)
    assert key(CELL, "two") not in found


def test_the_last_of_the_same_counts(tmp_path: Path) -> None:
    """As if the first had not been."""
    path = tmp_path / "results.jsonl"
    for result in (RESULT, replace(RESULT, hit_rate=0.6)):
        append_result(path, CELL, "one", result)
    assert read_results(path)[key(CELL, "one")].hit_rate == 0.6


def test_an_interrupted_line_costs_only_itself(tmp_path: Path) -> None:
    """Also not the line that is written after it."""
    path = tmp_path / "results.jsonl"
    append_result(path, CELL, "one", RESULT)
    append_result(path, replace(CELL, seed=2), "one", RESULT)
    path.write_text(path.read_text()[:-20])
    end_last_line(path)
    append_result(path, replace(CELL, seed=3), "one", RESULT)
    assert set(read_results(path)) == {key(replace(CELL, seed=seed), "one") for seed in (1, 3)}
