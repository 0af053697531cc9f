"""The command line, on a small trace."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.virtual.several_routers.command import app


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Conversations of four turns, 60 requests; at the load of these tests it lasts for about 30 s."""
    rng, rows = Random(1), []
    for conversation in range(15):
        for turn in range(4):
            num_blocks = 2 + 2 * turn
            rows.append(
                {
                    "timestamp": 3000 * (conversation + 4 * turn),
                    "input_length": 512 * num_blocks + 1,
                    "output_length": rng.randint(1, 50),
                    "hash_ids": [0, *range(100 * conversation + 1, 100 * conversation + num_blocks), 10**6],
                }
            )
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run(tmp_path: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """What it prints and its first table as JSON."""
    path = tmp_path / "tables.json"
    result = CliRunner().invoke(app, [*arguments, "--load", "0.3", "--replicas", "2", "--json", str(path)])
    assert result.exit_code == 0, result.output
    (table,) = json.loads(path.read_text())["tables"]
    return result.output, table


def test_agreement(trace: Path, tmp_path: Path) -> None:
    """The header names everything; routers that share all agree but for near ties, unlike those that share nothing.

    A router that takes others to have placed what it cannot see yet, as `router.load.lateness` has it, goes by the ring
    where one that knows finds a replica a little cheaper.
    """
    output, table = run(tmp_path, "agreement", "--trace", str(trace), "--seeds", "2")
    header = (
        "agreement: trace.jsonl with stamps spread evenly, load 0.3, 2 replicas, seeds 1, 2, waiting order shortest"
    )
    assert header in output.splitlines()[0]
    shared_to_agreement = {(row["routers"], row["shared"], row["delay_ms"]): row["agreement"] for row in table["rows"]}
    assert min(shared_to_agreement[num_routers, "all", 5] for num_routers in (2, 4)) > 0.95
    assert shared_to_agreement[4, "nothing", 5] < shared_to_agreement[4, "all", 5] - 0.3
    assert all(0 < row["hit_rate"] < 1 and row["prompt_imbalance"] >= 1 for row in table["rows"])


def test_faults(trace: Path, tmp_path: Path) -> None:
    """Without a fault nothing is ever wrong, lost messages are seen, and no reservation is left by any."""
    _, table = run(tmp_path, "faults", "--trace", str(trace))
    fault_to_row = {row["fault"]: row for row in table["rows"]}
    assert fault_to_row["none"]["right_after_s"] == 0
    assert fault_to_row["none"]["hit_rate_then"] == fault_to_row["none"]["hit_rate_without"]
    assert fault_to_row["receipts dropped for 10 s"]["right_after_s"] > 0
    assert fault_to_row["receipts dropped for 10 s"]["drift_tokens"] > fault_to_row["none"]["drift_tokens"]
    assert [row["reservations_left"] for row in table["rows"]] == [0] * 10


def test_restart(trace: Path, tmp_path: Path) -> None:
    """Nothing changes without a restart or where the state is adopted; two empty routers lose prefixes."""
    _, table = run(tmp_path, "restart", "--trace", str(trace), "--no-spread-evenly")
    change = {(row["aftermath"], row["restarted"]): row["hit_rate_change"] for row in table["rows"]}
    for aftermath in ("60 s", "300 s"):
        assert change[aftermath, "none"] == change[aftermath, "one, which adopts its peer's state"] == 0
        assert change[aftermath, "both, empty"] < 0


def test_an_absent_trace_is_one_clear_sentence(tmp_path: Path) -> None:
    """And not a traceback."""
    result = CliRunner().invoke(app, ["agreement", "--trace", str(tmp_path / "absent.jsonl")])
    assert result.exit_code == 1
    assert result.output.startswith("error: cannot read the trace")
    assert "give the path" in result.output
