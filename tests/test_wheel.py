"""What is installed where there is no checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("router", "serve_app", "loadtests", "warmroute")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return set(wheel.namelist())


def files(folder: Path) -> set[str]:
    """All below a folder, by their paths in it."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix() for path in paths}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_there_with_their_data(names: set[str], package: str) -> None:
    """Templates, workloads, HAProxy's program, the operators' page, and the mark of a typed package."""
    present = {f"{package}/{name}" for name in files(ROOT / package)}
    assert f"{package}/py.typed" in present
    assert present <= names


def test_settings_files_are_where_they_are_looked_for(names: set[str]) -> None:
    """Within `serve_app`, as `shipped_settings` says."""
    assert {f"serve_app/configs/{name}" for name in files(ROOT / "configs")} <= names


def test_nothing_else_is_there(names: set[str]) -> None:
    """But what every wheel has, and the licence."""
    others = {name for name in names if name.partition("/")[0] not in PACKAGES}
    assert {name.partition("/")[2] for name in others} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "licenses/NOTICE",
    }
