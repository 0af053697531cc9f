"""What an overlay takes from its settings, and the commands for Kubernetes."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serve_app.control.environment import data_path_environment
from serve_app.control.kubernetes import ENVIRONMENT_FILE, SERVE_CONFIG_FILE, overlay_files
from serve_app.control.serve_config import serve_config
from serve_app.settings.schema import Settings
from warmroute import cli

SETTINGS = Settings(llm={"model_loading_config": {"model_id": "demo"}}, name="chat")


def test_serves_config_is_text_in_the_patch() -> None:
    """As KubeRay hands it to Serve; shown line by line, so that a change of it can be read."""
    content = overlay_files(SETTINGS, source="mine.yaml")[SERVE_CONFIG_FILE]
    patch = yaml.safe_load(content)
    assert (patch["kind"], patch["metadata"]) == ("RayService", {"name": "warmroute"})
    assert yaml.safe_load(patch["spec"]["serveConfigV2"]) == serve_config(SETTINGS)
    assert "\n    - name: chat\n" in content
    assert content.startswith("# Made from mine.yaml by `warmroute kubernetes`")


def test_the_environment_is_a_line_for_each_variable() -> None:
    """In kustomize's form, which takes values as they are, blanks included."""
    lines = overlay_files(SETTINGS, source="mine.yaml")[ENVIRONMENT_FILE].splitlines()
    assert dict(line.split("=", 1) for line in lines[1:]) == data_path_environment(SETTINGS)


def test_files_are_written_beside_the_settings(tmp_path: Path) -> None:
    """By the command, which names them."""
    path = tmp_path / "mine.yaml"
    path.write_text("{name: chat, llm: {model_loading_config: {model_id: demo}}}")
    result = CliRunner().invoke(cli.app, ["kubernetes", str(path)])
    assert result.exit_code == 0
    for name, content in overlay_files(SETTINGS, source="mine.yaml").items():
        assert f"{tmp_path / name} written." in result.output
        assert (tmp_path / name).read_text() == content


def test_a_node_without_a_proxy_is_not_ready(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Status 1, which is what a probe looks at, and a sentence for who looks at its events."""
    mark = tmp_path / "ready"
    result = CliRunner().invoke(cli.app, ["ready", "--url", "http://127.0.0.1:9", "--mark", str(mark)])
    assert result.exit_code == 1
    assert "no answer from http://127.0.0.1:9 (ConnectError)" in result.output + capfd.readouterr().err
    assert not mark.exists()
