"""Results in a file, found again by what they depend on."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.virtual.decision.results import append_result, key, means, read_results
from benchmarks.virtual.decision.situation import Cell, Figures, Situation, Table

SITUATION = Situation(Table.ROBUSTNESS, "a", "reasoning", 1.0, rank_to_engine=((0, (("step_s", 0.02),)),))
CELL = Cell(SITUATION, "lmetric", seed=1, duration_s=60)
RESULT = Figures(0.1, 0.2, 3.0, 0.5)


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    """By parameters, policy and seed, whatever the table and name."""
    path = tmp_path / "results.jsonl"
    assert read_results(path) == {}
    append_result(path, CELL, RESULT)
    found = read_results(path)
    assert found[key(CELL)] == RESULT
    renamed = replace(CELL, situation=replace(SITUATION, table=Table.TRACES, name="b"))
    assert key(renamed) in found
    others = [replace(CELL, seed=2), replace(CELL, policy="chwbl"), replace(CELL, duration_s=61.0)]
    others += [replace(CELL, situation=replace(SITUATION, rank_to_engine=()))]
    assert not any(key(other) in found for other in others)


def test_the_last_of_the_same_counts(tmp_path: Path) -> None:
    """As if the first had not been."""
    path = tmp_path / "results.jsonl"
    for result in (RESULT, replace(RESULT, hit_rate=0.6)):
        append_result(path, CELL, result)
    assert read_results(path)[key(CELL)].hit_rate == 0.6


def test_an_interrupted_line_costs_only_itself(tmp_path: Path) -> None:
    """Also not the line that is written after it."""
    path = tmp_path / "results.jsonl"
    append_result(path, CELL, RESULT)
    append_result(path, replace(CELL, seed=2), RESULT)
    path.write_text(path.read_text()[:-20])
    append_result(path, replace(CELL, seed=3), RESULT)
    assert set(read_results(path)) == {key(replace(CELL, seed=seed)) for seed in (1, 3)}


def test_means_are_over_the_seeds(tmp_path: Path) -> None:
    """By situation and policy."""
    path = tmp_path / "results.jsonl"
    cells = [replace(CELL, seed=seed) for seed in (1, 2)]
    for cell, hit_rate in zip(cells, (0.5, 0.6), strict=True):
        append_result(path, cell, replace(RESULT, hit_rate=hit_rate))
    assert means(cells, path)[SITUATION]["lmetric"].hit_rate == pytest.approx(0.55)
