"""Who scales, and the command."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.virtual.autoscaling import command, trials
from benchmarks.virtual.autoscaling.command import app
from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, TrafficPhase
from serve_app.settings.schema import AUTOSCALING_POLICY
from tests.loadtests.replay.builders import BLOCK_SIZE, make_conversations


def make_traffic() -> ScalingTraffic:
    """A few conversations, in two halves."""
    requests = make_conversations()
    return ScalingTraffic(requests, BLOCK_SIZE, (TrafficPhase("first", 0, 20), TrafficPhase("second", 20, 60)))


def test_the_configuration_is_serves() -> None:
    """What all have in common, and the one number of each."""
    ours, theirs = trials.CONTENDERS["uncached_work:0.7"], trials.CONTENDERS["ongoing_requests:8@0.2"]
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    assert theirs == {**trials.COMMON, "target_ongoing_requests": 8, "downscaling_factor": 0.2}
    assert ours["policy"]["policy_function"] == AUTOSCALING_POLICY
    assert ours["policy"]["policy_kwargs"] == {"prefill_tokens_per_s": 10_000, "prefill_use": 0.7}


def test_a_row_for_each_contender_and_phase() -> None:
    """Fixed ones cost what they are; all requests are counted in their phase."""
    rows = list(trials.run(partial(make_traffic), ["fixed:6", "uncached_work:0.7"], num_jobs=1))
    assert [(row.policy, row.phase) for row in rows] == [
        ("fixed:6", "first"),
        ("fixed:6", "second"),
        ("uncached_work:0.7", "first"),
        ("uncached_work:0.7", "second"),
    ]
    assert (rows[0].replicas, rows[0].most, rows[0].changes) == (6, 6, 0)
    assert rows[0].replica_hours == pytest.approx(6 * 20 / 3600)
    assert rows[0].requests + rows[1].requests == len(make_conversations())
    assert all(0 <= row.late_rate <= 1 and 0 <= row.hit_rate < 1 for row in rows)


def test_the_command_prints_and_writes_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny step, as JSON too."""
    monkeypatch.setattr(command, "STEP_RPS", 0.02)
    agents, out = tmp_path / "agents.jsonl", tmp_path / "out.json"
    row = {
        "timestamp": None,
        "session_id": "a",
        "turn": 0,
        "input_length": 300,
        "output_length": 3,
        "hash_ids": list(range(19)),
    }
    agents.write_text(json.dumps(row) + "\n")
    arguments = ["step", "--agents", str(agents), "--policies", "fixed:6", "--jobs", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "fixed:6" in result.output
    (table,) = json.loads(out.read_text())["tables"]
    assert [each["phase"] for each in table["rows"]] == ["as recorded", "25% new", "as recorded again"]


def test_a_mistake_is_one_sentence() -> None:
    """No traceback."""
    result = CliRunner().invoke(app, ["step", "--policies", "none"])
    assert result.exit_code == 1
    assert "error: --policies: there is no 'none'; use some of uncached_work:0.6" in result.output
