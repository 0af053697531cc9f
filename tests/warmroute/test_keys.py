"""`warmroute keys`: a key is shown once, and what is wrong is said in a sentence."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serve_app.tenants.api_key import key_digest
from serve_app.tenants.key_file import KeyFile
from warmroute.cli import app


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """There is no key file yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*arguments: str) -> Result:
    """Call a command."""
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_new_key_is_shown_once() -> None:
    """And kept as a digest only."""
    key = keys("new", "acme", "--group", "lab", "--model", "demo", "--expires", "90d").output.splitlines()[-1]
    (entry,) = KeyFile.load(Path("keys.yaml")).tenants["acme"].keys
    assert entry.sha256 == key_digest(key.encode())
    listed = keys("list").output
    assert entry.id in listed
    assert "lab" in listed
    assert key.rpartition("-")[2] not in listed


def test_a_key_is_rotated_and_revoked() -> None:
    """First both are live, then the new one alone."""
    old = keys("new", "acme").output.splitlines()[-1].split("-")[1]
    rotated = keys("rotate", "acme", "--overlap", "2h").output
    assert "The old key is valid for another 2h." in rotated
    assert len(KeyFile.load(Path("keys.yaml")).tenants["acme"].keys) == 2
    assert f"Key {old} of acme is revoked" in keys("revoke", old).output
    (left,) = KeyFile.load(Path("keys.yaml")).tenants["acme"].keys
    assert left.id in rotated


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("new", "Acme"), "tenant 'Acme': a name has 1 to 63"),
        (("new", "acme", "--expires", "3 days"), "'3 days' is no duration"),
        (("list",), "the key file keys.yaml cannot be read: No such file"),
        (("revoke", "00000000"), "the key file keys.yaml cannot be read"),
    ],
)
def test_a_mistake_is_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    """And nothing is written."""
    result = keys(*arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not Path("keys.yaml").exists()
