"""The script that `make install` runs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "tools" / "install.py"


@pytest.fixture(scope="module")
def install() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("install", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_another_python_is_refused_in_a_sentence(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the version that was found, and how to name another."""
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    with pytest.raises(install.InstallError, match=r"Python 3.11 or 3.12 is needed and .* is 3.13.1: run make PYTHON="):
        install.check_python()


@pytest.mark.parametrize("version", [(3, 11, 7), (3, 12, 1)])
def test_both_tested_pythons_are_accepted(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    """`requires-python` of the package says the same."""
    monkeypatch.setattr(sys, "version_info", version)
    install.check_python()


def test_what_uv_prints_is_shown_only_if_it_fails(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A list of 226 packages tells nothing to whoever waits for the server."""
    monkeypatch.setattr(install, "uv_install", lambda: ["sh", "-c", "echo ' + package==1' >&2; exit $0"])
    install.uv(["0"], "not installed")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(install.InstallError, match="not installed"):
        install.uv(["1"], "not installed")
    assert "package==1" in capfd.readouterr().err


def test_pips_indexes_become_uvs(install: ModuleType) -> None:
    """From files and environment alike, several in one value, quotes and all."""
    listing = """:env:.find-links='/wheels'
global.index-url='https://a.example/simple'
global.extra-index-url='https://b.example/simple https://c.example/simple'
global.cert='/etc/cert.pem'
global.timeout='60'
"""
    assert install.as_uv_options(listing) == [
        *("--find-links", "/wheels"),
        *("--index-url", "https://a.example/simple"),
        *("--index", "https://b.example/simple"),
        *("--index", "https://c.example/simple"),
        *("--index-strategy", "unsafe-best-match"),
    ]


def test_a_missing_torch_is_one_sentence(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """When neither the configured indexes nor PyTorch's have it."""
    monkeypatch.setattr(install, "uv_succeeds", lambda _: False)
    monkeypatch.setattr(install, "uv_install", lambda: ["false"])
    with pytest.raises(install.InstallError, match=r"torch==2.13.0\+cpu is neither on the configured package indexes"):
        install.install_torch([])


def test_the_lock_pins_everything_but_torch_and_names_no_index(install: ModuleType) -> None:
    """Hashes for all, no host name; torch is pinned in pyproject.toml."""
    lock = install.LOCK.read_text()
    requirements = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(requirements) > 150
    assert all("==" in line for line in requirements)
    assert "://" not in lock
    assert not any(line.startswith(("torch==", "torchvision", "nvidia")) for line in requirements)
