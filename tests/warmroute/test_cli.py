"""The command line: every failure is a sentence."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from warmroute.cli import app

ROOT = Path(__file__).parent.parent.parent
runner = CliRunner()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing was started from here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_version_is_the_projects() -> None:
    """Which is written in one place."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"warmroute {project['version']}\n")


def test_stop_without_a_run_says_so() -> None:
    """And is no error."""
    result = runner.invoke(app, ["stop"])
    assert result.exit_code == 0
    assert "Nothing to stop" in result.output


@pytest.mark.parametrize(
    "command", [["policy", "round_robin"], ["shadow", "chwbl"], ["funnel"], ["top"], ["demo"], ["calibrate"]]
)
def test_commands_for_a_running_server_tell_how_to_start_one(command: list[str]) -> None:
    """Instead of a missing file."""
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert "no cluster was started from this folder: run `warmroute serve CONFIG`" in result.output


@pytest.mark.parametrize("command", ["stop", "funnel", "top", "demo", "doctor", "calibrate"])
@pytest.mark.parametrize("content", ['{"run_id": "a", "later": 1}', "[1]", "{"])
def test_the_note_of_another_version_is_a_sentence(empty_folder: Path, command: str, content: str) -> None:
    """With what to do, and the file left as it is."""
    path = empty_folder / ".warmroute" / "run.json"
    path.parent.mkdir()
    path.write_text(content)
    result = runner.invoke(app, [command])
    assert result.exit_code == 1
    assert "was written by another version of Warmroute" in result.output
    assert path.read_text() == content


def test_an_unknown_policy_lists_the_known() -> None:
    """On every command that takes one."""
    for command in (["policy", "fastest"], ["shadow", "chwbl", "fastest"], ["demo", "--policy", "fastest"]):
        result = runner.invoke(app, command)
        assert result.exit_code != 0
        assert "round_robin" in result.output


def test_bad_settings_are_explained(empty_folder: Path) -> None:
    """By `serve`, before anything is started."""
    (empty_folder / "bad.yaml").write_text("{llm: {}, polcy: x}")
    result = runner.invoke(app, ["serve", "bad.yaml"])
    assert result.exit_code == 1
    assert "polcy is not a setting" in result.output
    assert "Traceback" not in result.output


def test_the_serve_config_is_printed_as_yaml(empty_folder: Path) -> None:
    """And nothing else, so that it can be piped."""
    (empty_folder / "good.yaml").write_text("llm: {model_loading_config: {model_id: m}}")
    result = runner.invoke(app, ["serve-config", "good.yaml"])
    assert result.exit_code == 0
    assert yaml.safe_load(result.output)["applications"][0]["import_path"] == "serve_app.app:build"


def test_overlays_are_written_beside_files_of_ones_own() -> None:
    """Not into Warmroute's own folder, where shipped settings are."""
    result = runner.invoke(app, ["kubernetes", "configs/cpu-demo.yaml"])
    assert result.exit_code == 1
    assert "cannot write next to configs/cpu-demo.yaml: No such file or directory" in result.output


def test_a_dashboard_that_does_not_answer_is_named() -> None:
    """Port 9 answers nobody."""
    result = runner.invoke(app, ["policy", "round_robin", "--dashboard", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "no answer from the Ray dashboard at http://127.0.0.1:9" in result.output


@pytest.mark.parametrize(
    ("arguments", "changed", "said"),
    [
        (["policy", "random"], {"policy": "random"}, "Routing by random within a second."),
        (["shadow", "chwbl", "random", "chwbl"], {"shadow_policies": ["chwbl", "random"]}, "second: chwbl, random."),
        (["shadow"], {"shadow_policies": []}, "second: none."),
    ],
)
def test_routing_is_changed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], changed: dict[str, object], said: str
) -> None:
    """The cluster's config is submitted again, with these settings of this application's routers."""
    user_config = {"policy": "chwbl", "shadow_policies": ["least_loaded"], "of_a_later_version": 4}
    deployments = [{"name": "LLMServer", "user_config": {"a": 1}}, {"name": ROUTER_DEPLOYMENT}]
    other = {"name": "other", "deployments": [{"name": ROUTER_DEPLOYMENT, "user_config": dict(user_config)}]}
    ours = {"name": "warmroute", "deployments": [deployments[0], {**deployments[1], "user_config": user_config}]}
    expected = copy.deepcopy({"applications": [other, ours]})
    expected["applications"][1]["deployments"][1]["user_config"] |= changed
    submitted: list[object] = []

    def request(method: str, url: str, **options: Any) -> httpx.Response:
        if method == "PUT":
            submitted.append(options["json"])
        applications = {each["name"]: {"deployed_app_config": each} for each in (other, ours)}
        return httpx.Response(200, json={"applications": applications}, request=httpx.Request(method, url))

    monkeypatch.setattr(httpx, "request", request)
    result = runner.invoke(app, [*arguments, "--dashboard", "http://dashboard"])
    assert said in result.output
    assert submitted == [expected]
