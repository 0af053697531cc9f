"""The folders of k8s/, as kustomize builds them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Require

ROOT = Path(__file__).parent.parent.parent
K8S = ROOT / "k8s"

Object = dict[str, Any]
Build = Callable[[str], list[Object]]


@pytest.fixture(scope="session")
def build(require: Require) -> Build:
    """What a folder of k8s/ comes to."""
    commands = [[path, *words] for name, words in KUSTOMIZE if (path := shutil.which(name)) is not None]
    usable = [each for each in commands if is_recent(each)]
    require(bool(usable), "kubectl from 1.27 on, or kustomize from 4.5 on")
    folder_to_objects: dict[str, list[Object]] = {}

    def built(folder: str) -> list[Object]:
        if folder not in folder_to_objects:
            shown = subprocess.run([*usable[0], K8S / folder], check=True, capture_output=True, text=True)
            folder_to_objects[folder] = [each for each in yaml.safe_load_all(shown.stdout) if each is not None]
        return folder_to_objects[folder]

    return built


KUSTOMIZE = (("kubectl", ["kustomize"]), ("kustomize", ["build"]))


def is_recent(command: list[str]) -> bool:
    """Debian's own kubectl is of 2021, and its kustomize knows no folder among the resources."""
    probe = subprocess.run([*command, K8S / "load"], check=False, capture_output=True)
    return probe.returncode == 0
