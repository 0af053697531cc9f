"""The command line, without a cluster: wrong options, a machine that is too small, and a whole run on a fake one."""

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtests.bench import cluster, command
from loadtests.bench.command import app
from loadtests.bench.experiment import BenchExperiment
from serve_app.local.cluster import StartError
from tests.loadtests.bench.test_experiment import FakeCluster

FAST = ("--loads", "0.5", "--repetitions", "2", "--requests", "8", "--think-scale", "0", "--capacity-s", "1.5")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Valid settings."""
    path = tmp_path / "settings.yaml"
    path.write_text("llm: {model_loading_config: {model_id: demo}}")
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """In the place of a real cluster."""
    fake = FakeCluster()
    fake.engine = lambda: "simulated"  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def running(*_: object) -> Iterator[FakeCluster]:
        yield fake

    monkeypatch.setattr(cluster, "running", running)
    monkeypatch.setattr(command, "BenchExperiment", partial(BenchExperiment, client_of=fake.client))
    return fake


def run(*arguments: object) -> Any:
    """The command."""
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workload", "poems"), "--workload poems does not exist: use one or more of chat, agents, documents,"),
        (("--routing", "fair"), "--routing fair does not exist: use one or more of prefix_affinity, round_robin"),
        (("--loads", "0.5,zero"), "--loads 0.5,zero is not a list of numbers"),
        (("--loads", "0"), "--loads 0 has a number that is not above 0"),
        (("--requests", "0"), "--requests 0 is too small: use 1 or more"),
        (("--html", "/"), "--html / cannot be written"),
    ],
)
def test_a_bad_option_is_named_with_what_is_allowed(config: Path, options: tuple[str, ...], message: str) -> None:
    """Before anything is started."""
    outcome = run(config, *options)
    assert outcome.exit_code == 1
    assert message in " ".join(outcome.output.split())


def test_a_machine_that_is_too_small_is_told_so(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `serve` tells it."""

    @contextlib.contextmanager
    def running(*_: object) -> Iterator[None]:
        raise StartError("1.0 GiB of memory are free, 7.0 GiB are wanted for 2 applications")
        yield

    monkeypatch.setattr(cluster, "running", running)
    outcome = run(config, *FAST)
    assert outcome.exit_code == 1
    assert "error: 1.0 GiB of memory are free" in outcome.output


def test_a_whole_run(config: Path, tmp_path: Path, fake: FakeCluster) -> None:
    """Each routing in each repetition; tables, page and JSON."""
    html, record_file = tmp_path / "bench.html", tmp_path / "bench.json"
    routings = ("--routing", "prefix_affinity", "--routing", "round_robin")
    outcome = run(config, *FAST, *routings, "--workload", "chat", "--html", html, "--json", record_file)
    assert outcome.exit_code == 0, outcome.output
    assert "SIMULATED" in outcome.output
    assert "one_shot, load 0.5: " in outcome.output
    assert sorted(fake.prepared[2:]) == ["prefix_affinity"] * 4 + ["round_robin"] * 4
    assert "SIMULATED" in html.read_text()
    content = json.loads(record_file.read_text())
    assert len(content["cells"]) == 8
    assert content["engine"] == "simulated"


def test_what_was_measured_before_a_failure_is_reported(
    config: Path, tmp_path: Path, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, and status 1."""
    prepare = fake.prepare

    def fail_later(routing: str) -> Any:
        if len(fake.prepared) == 5:
            raise StartError("the cluster has gone")
        return prepare(routing)

    monkeypatch.setattr(fake, "prepare", fail_later)
    record_file = tmp_path / "bench.json"
    outcome = run(config, *FAST, "--workload", "chat", "--routing", "round_robin", "--json", record_file)
    assert outcome.exit_code == 1
    assert "ended after 3 of 4 cells: the cluster has gone" in " ".join(outcome.output.split())
    assert len(json.loads(record_file.read_text())["cells"]) == 3
