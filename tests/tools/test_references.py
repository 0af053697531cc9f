"""The script that writes the generated pages of docs/reference/."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from serve_app.telemetry.metrics import METRICS, OPS_METRICS

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "references.py"


@pytest.fixture(scope="module")
def references() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("references", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_current(references: ModuleType) -> None:
    """What is in the repository is what the code says."""
    for path, content in references.pages():
        assert path.read_text() == content, f"{path.name} is out of date: run `make docs`"


@pytest.mark.parametrize("key", ["`routing.policy`", "`edge.tls_port`", "policy_kwargs.prefill_use`"])
def test_settings_are_named_in_full(references: ModuleType, key: str) -> None:
    """As they are written in a file, also where they are nested or inside `llm`."""
    assert key in references.settings_page()


@pytest.mark.parametrize("command", ["serve", "demo-model", "replay", "audit"])
def test_every_command_has_a_section(references: ModuleType, command: str) -> None:
    """Also those with a command line of their own."""
    assert f"\n## warmroute {command}\n" in references.cli_page()


@pytest.mark.parametrize(
    "row",
    [
        "| `CONFIG` | required | A settings file",
        "| `--waiting-order` | `shortest` |",
        "| `--change`, repeatable |",
        "| `--jobs` | all cores |",
        "| `--fail-under` |  |",
    ],
)
def test_arguments_and_options_have_their_defaults(references: ModuleType, row: str) -> None:
    """Nothing in the page depends on the machine that wrote it."""
    assert row in references.cli_page()


def test_every_metric_has_a_row(references: ModuleType) -> None:
    """With Ray's prefix if routers export it, and without if the operators' application does."""
    page = references.metrics_page()
    for metric in METRICS:
        assert f"| `{metric.exported}` |" in page
    for metric in OPS_METRICS:
        assert f"| `{metric.exported.removeprefix('ray_')}` |" in page


def test_pages_that_a_docstring_names_become_links(references: ModuleType) -> None:
    """Relative to the generated page, so that they work in the repository and on the site."""
    assert "([page](../operate/page.md))" in references.settings_page()
