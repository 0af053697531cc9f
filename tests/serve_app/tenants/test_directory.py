"""Whose a key is, by the file as it is now, and the salt of its prompts."""

from datetime import timedelta
from pathlib import Path

import pytest

from serve_app.settings.schema import IsolationMode
from serve_app.tenants.credentials import presented_key
from serve_app.tenants.directory import Directory
from serve_app.tenants.isolation import SALT_CHARS, Isolation, nested_salt
from serve_app.tenants.key_changes import revoke_key
from serve_app.tenants.live_directory import LiveDirectory
from serve_app.tenants.operator import OPERATOR, operator_key
from tests.serve_app.tenants.files import NOW, SECRET, with_keys, written

NOW_S = NOW.timestamp()


def isolation(mode: IsolationMode = "tenant", *, version: int = 0, secret: str = "s" * 32) -> Isolation:
    """With a secret of its own."""
    return Isolation(mode, version=version, environment={"WARMROUTE_SECRET": secret})


def test_a_key_is_its_tenants_until_it_expires() -> None:
    """To the second, and no other text is a key."""
    file, (acme, globex) = with_keys("acme", "globex", lifetime=timedelta(seconds=10))
    directory = Directory.of(file, isolation(), own_key="own")
    ids = {OPERATOR, *(key.split("-")[1] for key in (acme, globex))}
    found = directory.find(acme.encode(), now_s=NOW_S + 9.9)
    assert found is not None
    assert found.tenant == "acme"
    assert directory.find(acme.encode(), now_s=NOW_S + 10) is None
    assert directory.find(globex.encode()[:-1], now_s=NOW_S) is None
    assert directory.find(b"", now_s=NOW_S) is None
    assert {key_id for key_id in ids if directory.is_live(key_id, now_s=NOW_S)} == ids
    assert {key_id for key_id in ids if directory.is_live(key_id, now_s=NOW_S + 10)} == {OPERATOR}
    assert not directory.is_live("00000000", now_s=NOW_S)


def test_tenants_have_salts_of_their_own() -> None:
    """The same in every process, and others after the secret or the file's version has changed."""
    salts = {isolation().salt(tenant, None) for tenant in ("acme", "globex")}
    assert len(salts) == 2
    assert {len(salt) for salt in salts} == {SALT_CHARS}
    assert isolation().salt("acme", None) in salts
    assert isolation(version=1).salt("acme", None) not in salts
    assert isolation(secret="t" * 32).salt("acme", None) not in salts


@pytest.mark.parametrize(("mode", "num_salts"), [("tenant", 3), ("group", 2), ("shared", 1)])
def test_the_mode_says_who_shares(mode: IsolationMode, num_salts: int) -> None:
    """Two of one group, and one of none; a group is no tenant of the same name."""
    members = [("acme", "lab"), ("globex", "lab"), ("lab", None)]
    assert len({isolation(mode).salt(tenant, group) for tenant, group in members}) == num_salts


def test_a_clients_salt_cannot_reach_another_tenants() -> None:
    """Whatever it is: the tenant's part comes first and has one length."""
    salts = [isolation().salt(tenant, None) for tenant in ("acme", "globex")]
    clients = ["", "x", salts[1], salts[0] + "x"]
    assert len({nested_salt(salt, client) for salt in salts for client in clients}) == len(salts) * len(clients)


def test_the_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged or missing one closes, and a right one opens again."""
    monkeypatch.setenv(*next(iter(SECRET.items())))
    file, (acme,) = with_keys("acme")
    path = written(file, tmp_path)
    live = LiveDirectory(path, "tenant")
    assert live.directory.find(acme.encode(), now_s=NOW_S) is not None
    assert live.salt("acme") == isolation().salt("acme", None)
    assert not live.read_if_changed()

    path.write_text("tenants: [")
    assert live.read_if_changed()
    assert "not valid YAML" in str(live.fault)
    assert live.directory.find(acme.encode(), now_s=NOW_S) is None

    own = live.directory.find(operator_key().encode(), now_s=NOW_S)
    assert own is not None
    assert own.tenant == OPERATOR

    path.unlink()
    assert live.read_if_changed()
    assert "No such file" in str(live.fault)

    written(file, tmp_path)
    assert live.read_if_changed()
    assert live.fault is None
    assert live.directory.find(acme.encode(), now_s=NOW_S) is not None

    written(revoke_key(file, acme.split("-")[1])[1], tmp_path)
    assert live.read_if_changed()
    assert live.directory.find(acme.encode(), now_s=NOW_S) is None


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([("authorization", "Bearer k")], b"k"),
        ([("authorization", "bearer   k ")], b"k"),
        ([("x-api-key", "k")], b"k"),
        ([("x-api-key", "k"), ("authorization", "Bearer k")], b"k"),
        ([("x-api-key", "k"), ("authorization", "Bearer l")], None),
        ([("x-api-key", "k"), ("x-api-key", "l")], None),
        ([("authorization", "Basic k")], None),
        ([("authorization", "k")], None),
        ([("authorization", "Bearer")], None),
        ([("x-api-key", "")], None),
        ([("x-api-key", "k" * 513)], None),
        ([("x-other", "k")], None),
        ([], None),
    ],
)
def test_a_request_has_one_key_or_none(headers: list[tuple[str, str]], key: bytes | None) -> None:
    """In one of the headers of OpenAI's and Anthropic's clients, or the same in both."""
    assert presented_key((name.encode(), value.encode()) for name, value in headers) == key
