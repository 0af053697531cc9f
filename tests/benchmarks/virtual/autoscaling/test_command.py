"""Who scales, and the command."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.virtual.autoscaling import trials
from benchmarks.virtual.autoscaling.command import app
from benchmarks.virtual.autoscaling.contenders import Contender, Rule, read_contenders
from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, TrafficPhase
from loadtests.replay.engine import EngineOptions
from loadtests.replay.options import OptionError
from serve_app.settings.schema import AUTOSCALING_POLICY
from tests.loadtests.replay.builders import BLOCK_SIZE, OPTIONS, make_conversations

RULES = trials.Rules(
    start_s=5,
    first_replicas=2,
    max_replicas=3,
    upscale_delay_s=5,
    downscale_delay_s=5,
    ttft_limit_s=1,
    engine=EngineOptions(**{**OPTIONS.model_dump(), "prefill_tokens_per_s": 60}),
)


def make_traffic() -> ScalingTraffic:
    """A few conversations, in two halves."""
    requests = make_conversations()
    return ScalingTraffic(requests, BLOCK_SIZE, (TrafficPhase("first", 0, 20), TrafficPhase("second", 20, 60)))


def test_contenders_are_read() -> None:
    """And written as they are read."""
    text = "uncached_work:0.7,ongoing_requests:8@0.2,fixed:6"
    contenders = read_contenders(text)
    assert contenders[1] == Contender(Rule.ONGOING_REQUESTS, 8, 0.2)
    assert ",".join(map(str, contenders)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu:3", "--policy cpu:3 is not RULE:NUMBER"),
        ("fixed", "--policy fixed is not RULE:NUMBER"),
        ("fixed:2.5", "replicas are whole"),
        ("ongoing_requests:0", "use a number above 0"),
        ("ongoing_requests:1@-1", "use a number above 0"),
    ],
)
def test_a_wrong_contender_is_named(text: str, message: str) -> None:
    """In a sentence."""
    with pytest.raises(OptionError, match=message):
        read_contenders(text)


def test_the_configuration_is_serves() -> None:
    """What all have in common, and the one number of each."""
    ours, theirs, fixed = (
        RULES.autoscaling(each) for each in read_contenders("uncached_work:0.7,ongoing_requests:8,fixed:2")
    )
    assert fixed is None
    assert ours is not None
    assert theirs is not None
    assert theirs.config["target_ongoing_requests"] == 8
    assert ours.config["policy"]["policy_function"] == AUTOSCALING_POLICY
    assert ours.config["policy"]["policy_kwargs"] == {"prefill_tokens_per_s": 60, "prefill_use": 0.7}
    assert {**theirs.config, "target_ongoing_requests": None} == {
        **{name: value for name, value in ours.config.items() if name != "policy"},
        "target_ongoing_requests": None,
    }


def test_a_row_for_each_contender_and_phase() -> None:
    """Fixed ones cost what they are; all requests are counted in their phase."""
    rows = list(trials.run(partial(make_traffic), read_contenders("fixed:3,uncached_work:0.7"), RULES, num_jobs=1))
    assert [(row.policy, row.phase) for row in rows] == [
        ("fixed:3", "first"),
        ("fixed:3", "second"),
        ("uncached_work:0.7", "first"),
        ("uncached_work:0.7", "second"),
    ]
    assert (rows[0].replicas, rows[0].most, rows[0].changes) == (3, 3, 0)
    assert rows[0].replica_hours == pytest.approx(3 * 20 / 3600)
    assert rows[0].requests + rows[1].requests == len(make_conversations())
    assert all(0 <= row.late_rate <= 1 and 0 <= row.hit_rate < 1 for row in rows)


def test_the_command_prints_and_writes_tables(tmp_path: Path) -> None:
    """A tiny step, as JSON too."""
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
    arguments = ["step", "--agents", str(agents), "--step-rps", "0.02", "--policy", "fixed:1", "--jobs", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "fixed:1" in result.output
    (table,) = json.loads(out.read_text())["tables"]
    assert [each["phase"] for each in table["rows"]] == ["as recorded", "25% new", "as recorded again"]


def test_a_mistake_is_one_sentence() -> None:
    """No traceback."""
    result = CliRunner().invoke(app, ["step", "--policy", "none"])
    assert result.exit_code == 1
    assert "error: --policy none is not RULE:NUMBER" in result.output
