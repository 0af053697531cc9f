"""Write what is generated of k8s/ from settings, metrics and alerts; with `--check`, say whether it is current."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from serve_app.control.kubernetes import overlay_files
from serve_app.settings.load import load_settings
from serve_app.telemetry.alerts import rules
from serve_app.telemetry.dashboard import dashboard

FOLDER = Path(__file__).resolve().parent.parent / "k8s"
BASE = FOLDER / "base"


def generated() -> Iterator[tuple[Path, str]]:
    """Every file, and what it should be."""
    for settings_file in sorted(FOLDER.glob("overlays/*/settings.yaml")):
        for name, content in overlay_files(load_settings(settings_file), source=settings_file.name).items():
            yield settings_file.with_name(name), content
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "warmroute"},
        "spec": rules(),
    }
    yield BASE / "prometheus-rule.yaml", "# Made by `make docs`.\n" + yaml.safe_dump(rule, sort_keys=False, width=120)
    yield BASE / "grafana-dashboard.json", json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    for path, content in generated():
        if "--check" not in sys.argv:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            sys.exit(f"{path.relative_to(FOLDER.parent)} is out of date: run `make docs`")
