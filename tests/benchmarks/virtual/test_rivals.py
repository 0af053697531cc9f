"""The command line, on a small trace."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.virtual.rivals import app
from loadtests.replay.rivals.table import installed_names


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Ten conversations of three turns."""
    rows = [
        {
            "timestamp": 3000 * (conversation // 4 + 3 * turn),
            "input_length": 512 * (turn + 2) + 1,
            "output_length": 20,
            "hash_ids": [0, *range(100 * conversation + 1, 100 * conversation + turn + 2), 10**6],
        }
        for turn in range(3)
        for conversation in range(10)
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run(trace: Path, *arguments: str) -> tuple[str, list[dict[str, float]]]:
    """What it prints, and the table's rows."""
    path = trace.with_name("table.json")
    result = CliRunner().invoke(
        app, ["--trace", str(trace), "--load", "0.3", "--replicas", "3", "--json", str(path), *arguments]
    )
    assert result.exit_code == 0, result.output
    return result.output, json.loads(path.read_text())["tables"][0]["rows"]


def test_all_that_are_installed(trace: Path) -> None:
    """One row each; whoever looks at prefixes, or at sessions, hits more than whoever does not."""
    output, rows = run(trace, "--kv-tokens", "50000")
    assert [row["policy"] for row in rows] == list(installed_names())
    assert "load 0.3, 3 replicas, seeds 1, waiting order shortest, 50,000 KV tokens each" in output
    assert all(0 < row["p50_ttft_s"] <= row["p90_ttft_s"] <= row["p99_ttft_s"] for row in rows)
    hit_rate = {row["policy"]: row["hit_rate"] for row in rows}
    aware = [hit_rate[name] for name in ("prefix_affinity", "llmd_approximate", "sglang_cache_aware", "ray_prefix")]
    blind = [hit_rate[name] for name in ("random", "power_of_two", "least_requests", "least_loaded")]
    assert min(*aware, hit_rate["session_hash"]) > max(blind)


def test_some_with_a_cache_that_holds_nothing(trace: Path) -> None:
    """Not one block fits beside those in use, and no two requests meet: there is nothing to hit."""
    _, rows = run(trace, "random", "greedy_oracle", "--kv-tokens", "511", "--load", "0.01", "--spread-evenly")
    assert [row["policy"] for row in rows] == ["random", "greedy_oracle"]
    assert [row["hit_rate"] for row in rows] == [0, 0]


def test_an_unknown_policy_is_refused_by_name() -> None:
    """The message lists what exists."""
    result = CliRunner().invoke(app, ["fastest"])
    assert result.exit_code == 2
    assert "fastest: use some of prefix_affinity" in " ".join(result.output.replace("│", "").split())


def test_an_absent_trace_is_one_clear_sentence(tmp_path: Path) -> None:
    """And not a traceback."""
    result = CliRunner().invoke(app, ["random", "--trace", str(tmp_path / "absent.jsonl")])
    assert result.exit_code == 1
    assert result.output.startswith("error: cannot read the trace")
