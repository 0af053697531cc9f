"""The key file: what is read is what was written, and a fault is named."""

import contextlib
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve_app.tenants.key_changes import make_key, revoke_key, rotate_key
from serve_app.tenants.key_file import KeyFile, KeyFileError
from tests.serve_app.tenants.files import NOW, with_keys, written

LIKELY = st.lists(
    st.sampled_from(
        ["tenants", "keys", "expires", "2027-13-45", "1:99:99", "!!int x", "~", "{", "}", "[", "]", ": ", "\n", "- "]
    )
).map(lambda parts: "".join(parts).encode())
"""Contents of what key files are made of, in any order."""
DIGESTS = ["0" * 63 + "a", "0" * 63 + "b"]


@pytest.mark.parametrize("name", ["keys.yaml", "keys.json"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    """As YAML and as JSON, readable by its owner only, and without a key in it."""
    file, keys = with_keys("acme", "globex", lifetime=timedelta(days=1), group="lab")
    path = written(file, tmp_path, name)
    assert KeyFile.load(path) == file
    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(key.rpartition("-")[2] in path.read_text() for key in keys)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "Expected `object`"),
        ("[]", "Expected `object`"),
        ("tenants: [", "not valid YAML in line"),
        ("{", "neither valid YAML nor valid JSON"),
        ("tenants: {Acme: {}}", "tenant 'Acme': a name has 1 to 63 of a-z"),
        ("tenants: {acme: {keyz: []}}", "tenant 'acme': Object contains unknown field `keyz`"),
        (f"tenants: {{acme: {{keys: [{{id: a, sha256: {DIGESTS[0]}, expires: 2027-01-01}}]}}}}", "tenant 'acme'"),
        ("tenants: {acme: {keys: [{id: a, sha256: zz}]}}", "tenant 'acme'"),
        (f"tenants: {{a: {{keys: [{{id: k, sha256: {DIGESTS[0]}}}, {{id: k, sha256: {DIGESTS[1]}}}]}}}}", "same id"),
        (f"tenants: {{a: {{keys: [{{id: k, sha256: {DIGESTS[0]}}}, {{id: l, sha256: {DIGESTS[0]}}}]}}}}", "same sha"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, content: str, fault: str) -> None:
    """With the file, and never with a digest."""
    path = tmp_path / "keys.yaml"
    path.write_text(content)
    with pytest.raises(KeyFileError, match=re.escape(fault)) as raised:
        KeyFile.load(path)
    assert str(path) in str(raised.value)
    assert not any(digest in str(raised.value) for digest in DIGESTS)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode), LIKELY))
@example(b"tenants: {a: {keys: [{id: k, sha256: x, expires: 2027-13-45}]}}")
@example(b"? [a]\n: b")
@example(b"&a [*a]")
def test_any_content_is_a_key_file_or_a_fault(content: bytes) -> None:
    """Whatever else it raised would end the task that follows the file, and leave the keys of before valid."""
    with contextlib.suppress(KeyFileError):
        assert isinstance(KeyFile.parse(content), KeyFile)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(KeyFileError, match="No such file"):
        KeyFile.load(tmp_path / "keys.yaml")


def test_a_tenant_has_two_live_keys_at_most() -> None:
    """An expired one gives way, and is taken out."""
    file, _ = with_keys("acme", "acme", lifetime=timedelta(days=1))
    with pytest.raises(KeyFileError, match="2 live keys"):
        make_key(file, "acme", now=NOW)
    later = make_key(file, "acme", now=NOW + timedelta(days=1))
    assert [key.id for key in later.file.tenants["acme"].keys] == [later.key.id]


def test_a_new_key_keeps_the_tenants_group_and_models() -> None:
    """Unless it is given others."""
    first = make_key(KeyFile(tenants={}), "acme", now=NOW, group="lab", models=["demo"])
    second = make_key(first.file, "acme", now=NOW)
    assert (second.file.tenants["acme"].group, second.file.tenants["acme"].models) == ("lab", ("demo",))


@pytest.mark.parametrize(("lifetime", "left"), [(None, 24), (timedelta(hours=2), 2)])
def test_a_rotated_key_ends_with_the_overlap(lifetime: timedelta | None, left: int) -> None:
    """Or when it would have ended anyway."""
    file, _ = with_keys("acme", lifetime=lifetime)
    made = rotate_key(file, "acme", now=NOW, overlap=timedelta(hours=24))
    old, new = made.file.tenants["acme"].keys
    assert old.expires == NOW + timedelta(hours=left)
    assert (new.id, new.expires) == (made.key.id, None)
    with pytest.raises(KeyFileError, match="2 live keys in place of one"):
        rotate_key(made.file, "acme", now=NOW, overlap=timedelta(hours=24))


def test_a_revoked_key_is_gone() -> None:
    """And another tenant's stays."""
    file, keys = with_keys("acme", "globex")
    tenant, left = revoke_key(file, keys[0].split("-")[1])
    assert tenant == "acme"
    assert left.tenants["acme"].keys == ()
    assert left.tenants["globex"] == file.tenants["globex"]
    with pytest.raises(KeyFileError, match="there is no key 00000000"):
        revoke_key(left, "00000000")
