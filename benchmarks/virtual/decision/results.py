"""Results in a file of JSON lines, so that what was run once need not be run again, and their means over seeds."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.decision.measure import measure
from benchmarks.virtual.decision.situation import Cell, Figures, Situation
from loadtests.replay.parallel import run_all

Measured = Mapping[Situation, Mapping[str, Figures]]
"""Means over the seeds by situation, then by policy."""


def key(cell: Cell) -> str:
    """What a result is found by."""
    return json.dumps(cell.parameters(), sort_keys=True)


def read_results(path: Path) -> dict[str, Figures]:
    """All results of the file by `key`, none without one; a line that an interruption cut off is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[json.dumps(row["parameters"], sort_keys=True)] = Figures(**row["result"])
    return found


def append_result(path: Path, cell: Cell, result: Figures) -> None:
    """Append one line in one write, so that several processes may append to the same file.

    The line begins with a line end, in case the one before was cut off.
    """
    row = {"name": cell.situation.name, "parameters": cell.parameters(), "result": asdict(result)}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"\n{json.dumps(row)}".encode())
    finally:
        os.close(descriptor)


def run_cells(cells: Sequence[Cell], path: Path, *, traces: Path, num_jobs: int, on_done: Callable[[], None]) -> None:
    """Run all and keep each result at once, so that whoever is interrupted can go on.

    Raises:
        TraceError: a trace is not in the folder `traces`, or not as it should be.

    """
    run_all(partial(_run, path, traces), cells, num_jobs=num_jobs, on_done=on_done)


def means(cells: Sequence[Cell], path: Path) -> Measured:
    """The means over the seeds, in order of the cells, all of which are in the file."""
    key_to_result = read_results(path)
    found: dict[Situation, dict[str, list[Figures]]] = {}
    for cell in cells:
        found.setdefault(cell.situation, {}).setdefault(cell.policy, []).append(key_to_result[key(cell)])
    return {
        situation: {policy: mean_row(results) for policy, results in policy_to_results.items()}
        for situation, policy_to_results in found.items()
    }


def _run(path: Path, traces: Path, cell: Cell) -> None:
    append_result(path, cell, measure(cell, traces=traces))
