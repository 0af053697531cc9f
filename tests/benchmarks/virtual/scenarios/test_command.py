"""The command line, on a small trace."""

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.virtual.scenarios.command import app
from benchmarks.virtual.scenarios.giants import POLICIES
from tests.loadtests.replay.traces import write_conversations


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Conversations of four turns, 120 requests."""
    return write_conversations(tmp_path / "trace.jsonl", num_conversations=30)


def run(trace: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """What it prints and its first table's rows."""
    path = trace.with_name("tables.json")
    result = CliRunner().invoke(app, ["--trace", str(trace), "--json", str(path), *arguments])
    assert result.exit_code == 0, result.output
    return result.output, json.loads(path.read_text())["tables"][0]["rows"]


def test_hot_prefix(trace: Path) -> None:
    """Both ways of counting; every policy is compared with the two that are the best in one thing each."""
    output, rows = run(trace, "hot_prefix", "--replicas", "3", "--seeds", "2")
    assert "hot_prefix: trace.jsonl with stamps spread at random, load 0.8, 3 replicas, seeds 1, 2" in output
    assert [row["load_counts"] for row in rows] == ["all prompts"] * 5 + ["all but the prefix"] * 5
    policy_to_row = {row["policy"]: row for row in rows[:5]}
    assert policy_to_row["pure_affinity"]["hit_rate_ratio"] == policy_to_row["least_loaded"]["p95_ratio"] == 1
    assert policy_to_row["pure_affinity"]["at_end"] == 1
    assert policy_to_row["least_loaded"]["at_half"] == 3
    assert policy_to_row["least_loaded"]["requests_until_one"] == inf


def test_giants(trace: Path) -> None:
    """Others than giants are held against themselves without any; our policy against each, itself included."""
    output, rows = run(trace, "giants", "--replicas", "3", "--seeds", "2")
    assert "giants: trace.jsonl with stamps spread at random, load 0.8, 3 replicas, seeds 1, 2" in output
    assert [row["giants_share"] for row in rows] == ["0.1"] * 4 + ["0.2"] * 4
    assert [row["policy"] for row in rows[:4]] == list(POLICIES)
    assert (rows[0]["ours_ratio"], rows[0]["ours_margin"]) == (1, 0)
    for row in rows:
        assert row["mean_ttft_s"] < row["all_ttft_s"] < row["giants_ttft_s"]
        assert 0 <= row["behind_rate"] < 1


def test_ring_moves(trace: Path) -> None:
    """With production's virtual nodes, four replicas keep to what is allowed on average."""
    _, rows = run(trace, "ring_moves", "--replicas", "4")
    assert [row["change"] for row in rows] == ["leave", "join"]
    assert all(0.1 < row["mean_moved_rate"] <= row["allowed_rate"] for row in rows)


def test_membership(trace: Path) -> None:
    """Four events under three policies; only those with a newcomer tell its share."""
    _, rows = run(trace, "membership", "--replicas", "3", "--load", "0.1", "--seeds", "1")
    assert [row["event"] for row in rows[::3]] == ["join", "leave", "crash", "crash, replaced after 30 s"]
    assert all(row["ratio_before"] == 1 for row in rows if row["event"] in ("join", "leave"))
    assert all(row["least_share"] <= 1 <= row["most_share"] for row in rows)
    has_newcomer = [row["newcomer"] >= row["least_share"] for row in rows]
    assert has_newcomer == [True] * 3 + [False] * 6 + [True] * 3


def test_routers(trace: Path) -> None:
    """One router is the measure; those that share nothing agree least and hit least."""
    _, rows = run(trace, "routers", "--replicas", "3", "--seeds", "1")
    assert [(row["routers"], row["shared"], row["delay_ms"]) for row in rows] == [
        (1, "all", 50),
        (4, "all", 50),
        (4, "load only", 50),
        (4, "nothing", 50),
    ]
    assert rows[0]["agreement"] == rows[0]["hit_rate_ratio"] == rows[0]["mean_ttft_ratio"] == 1
    assert rows[2]["agreement"] < rows[1]["agreement"]
    assert rows[2]["hit_rate"] < rows[1]["hit_rate"]


def test_an_absent_trace_is_one_clear_sentence(tmp_path: Path) -> None:
    """And not a traceback."""
    result = CliRunner().invoke(app, ["routers", "--trace", str(tmp_path / "absent.jsonl")])
    assert result.exit_code == 1
    assert result.output.startswith("error: cannot read the trace")
