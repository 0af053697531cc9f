"""Many cells over several processes, each result kept as it comes, and their means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.virtual.decision import kept
from benchmarks.virtual.decision.measure import measure
from benchmarks.virtual.decision.situation import Cell, CellFigures, Situation
from benchmarks.virtual.decision.verdict import Means, Situations, means
from loadtests.replay.parallel import run_all


@dataclass(frozen=True, slots=True)
class ResultStore:
    """The file of results, and the version of the code that each policy's results are of."""

    path: Path
    policy_to_tag: Mapping[str, str]

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that have no result yet."""
        key_to_result = kept.read_results(self.path)
        return [cell for cell in cells if self._key(cell) not in key_to_result]

    def keep(self, cell: Cell, result: CellFigures) -> None:
        """Add one."""
        kept.append_result(self.path, cell, self.policy_to_tag[cell.policy], result)

    def measured(self, cells: Sequence[Cell]) -> Situations:
        """Means over the seeds that are there, in order of the cells."""
        key_to_result = kept.read_results(self.path)
        found: dict[Situation, dict[str, list[CellFigures]]] = {}
        for cell in cells:
            result = key_to_result.get(self._key(cell))
            if result is not None:
                found.setdefault(cell.situation, {}).setdefault(cell.policy, []).append(result)
        return {situation: _means(policy_to_results) for situation, policy_to_results in found.items()}

    def _key(self, cell: Cell) -> str:
        return kept.key(cell, self.policy_to_tag[cell.policy])


def run_cells(
    cells: Sequence[Cell], store: ResultStore, *, traces: Path, num_jobs: int, on_done: Callable[[], None]
) -> None:
    """Run all and keep each result at once, so that whoever is interrupted can go on.

    Raises:
        TraceError: a trace is not in the folder `traces`, or not as it should be.

    """
    kept.end_last_line(store.path)
    run_all(partial(_run, store, traces), cells, num_jobs=num_jobs, on_done=on_done)


def _run(store: ResultStore, traces: Path, cell: Cell) -> None:
    store.keep(cell, measure(cell, traces=traces))


def _means(policy_to_results: Mapping[str, Sequence[CellFigures]]) -> dict[str, Means]:
    return {policy: means(results) for policy, results in policy_to_results.items()}
