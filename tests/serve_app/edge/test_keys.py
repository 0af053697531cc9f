"""HAProxy itself asks for keys: who has none reaches neither a router nor a replica."""

import contextlib
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from serve_app.edge.keys import MAP_NAME, map_lines, replace, watch
from serve_app.settings.cluster_secret import SECRET_VARIABLE
from serve_app.tenants.credentials import TENANT_HEADER
from serve_app.tenants.key_changes import revoke_key
from serve_app.tenants.operator import OPERATOR, operator_headers
from tests.serve_app.edge.running import SECRET, Edge
from tests.serve_app.edge.setting import CHAT, Setting, started
from tests.serve_app.tenants.files import NOW, with_keys, written

MESSAGES = "/v1/messages"
ENVIRONMENT = {SECRET_VARIABLE: SECRET}


@contextlib.contextmanager
def with_file(setting: Setting, folder: Path, path: Path) -> Iterator[Edge]:
    """HAProxy that goes by this key file."""
    with started(setting, folder, key_file=str(path)) as edge:
        yield edge


def num_reached(setting: Setting) -> int:
    """Requests that came to a router or a replica."""
    return setting.num_asked + sum(len(replica.requests) for replica in setting.replicas.values())


def test_a_router_learns_the_tenant_and_no_forged_one(setting: Setting, tmp_path: Path) -> None:
    """In either header; the replica gets the client's own headers as they are."""
    file, keys = with_keys("acme", "globex")
    with with_file(setting, tmp_path, written(file, tmp_path)) as edge:
        for headers in ({"authorization": f"Bearer {keys[0]}"}, {"x-api-key": keys[1]}):
            answer = httpx.post(edge.url + CHAT, json={}, headers={**headers, TENANT_HEADER: "forged"})
            assert answer.status_code == 200
            assert answer.json()["headers"].items() >= headers.items()
    questions = [request for router in setting.routers for request in router.requests]
    assert sorted(question.headers[TENANT_HEADER] for question in questions) == ["acme", "globex"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "KEY")],
        [("authorization", "Basic KEY")],
        [("authorization", "Bearer")],
        [("x-api-key", "")],
        [("x-api-key", "KEY0")],
        [("x-api-key", "KEY"), ("x-api-key", "KEY")],
        [("x-api-key", "KEY"), ("authorization", "Bearer wrong")],
        [("authorization", "Bearer KEY"), ("x-api-key", "wrong")],
        [("authorization", "Bearer KEY"), ("authorization", "Bearer wrong")],
        [("x-api-key", "k" * 10_000)],
        [("x-api-key", "\xfc\xff")],
        [(TENANT_HEADER, "acme")],
    ],
)
def test_without_a_key_nothing_is_reached(setting: Setting, tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    """On GETs and POSTs, by paths of either API, and in its words; the query counts for nothing."""
    file, (key,) = with_keys("acme")
    sent = [(name, value.replace("KEY", key).encode("latin-1")) for name, value in headers]
    with with_file(setting, tmp_path, written(file, tmp_path)) as edge, httpx.Client(base_url=edge.url) as client:
        for method, path in (("POST", CHAT), ("POST", MESSAGES), ("GET", "/v1/models"), ("GET", "/health")):
            answer = client.request(method, f"{path}?api_key={key}", headers=sent)
            assert answer.status_code == 401
            error = answer.json()["error"]
            assert error.get("code") == "invalid_api_key" or (path, error["type"]) == (MESSAGES, "authentication_error")
    assert num_reached(setting) == 0


def test_a_body_is_not_waited_for(setting: Setting, tmp_path: Path) -> None:
    """A client without a key is answered before it has sent one."""
    file, _ = with_keys("acme")
    with (
        with_file(setting, tmp_path, written(file, tmp_path)) as edge,
        socket.create_connection(("127.0.0.1", edge.port), timeout=30) as connection,
    ):
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert num_reached(setting) == 0


def test_a_changed_file_is_handed_over(setting: Setting, tmp_path: Path) -> None:
    """Without a restart: a new key is taken, a revoked one and an expired one are refused, a damaged file closes."""
    file, keys = with_keys("acme", "globex")
    path = written(file, tmp_path)
    with with_file(setting, tmp_path, path) as edge:
        key_map, admin_socket = tmp_path / MAP_NAME, tmp_path / "admin.sock"

        def statuses() -> list[int]:
            return [httpx.post(edge.url + CHAT, json={}, headers={"x-api-key": key}).status_code for key in keys]

        assert statuses() == [200, 200]
        written(revoke_key(file, keys[0].split("-")[1])[1], tmp_path)
        replace(admin_socket, key_map, map_lines(path, ENVIRONMENT))
        assert statuses() == [401, 200]

        expired, keys = with_keys("acme", "globex", lifetime=NOW - NOW + timedelta(seconds=1) - timedelta(days=365))
        written(expired, tmp_path)
        replace(admin_socket, key_map, map_lines(path, ENVIRONMENT))
        assert statuses() == [401, 401]

        path.write_text("tenants: [")
        replace(admin_socket, key_map, map_lines(path, ENVIRONMENT))
        assert statuses() == [503, 503]
        assert httpx.post(edge.url + CHAT, json={}, headers=operator_headers(ENVIRONMENT)).status_code == 200


def test_the_watcher_hands_over_what_changes(setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each look; where HAProxy does not answer, with the next one."""
    file, keys = with_keys("acme", "globex")
    path = written(file, tmp_path)
    looks: list[int] = []
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)

    class EnoughError(Exception):
        pass

    def wait(_seconds: float) -> None:
        looks.append(httpx.post(edge.url + CHAT, json={}, headers={"x-api-key": keys[0]}).status_code)
        if len(looks) == 1:
            written(revoke_key(file, keys[0].split("-")[1])[1], tmp_path)
        if len(looks) == 3:
            raise EnoughError

    with with_file(setting, tmp_path, path) as edge, pytest.raises(EnoughError):
        watch(tmp_path / "admin.sock", path, tmp_path / MAP_NAME, wait=wait)
    assert looks == [200, 401, 401]


def test_many_keys_are_handed_over(setting: Setting, tmp_path: Path) -> None:
    """In parts that fit in HAProxy's buffer."""
    file, (key,) = with_keys("acme")
    path = written(file, tmp_path)
    others = [f"{number:064x} tenant{number} 0" for number in range(20_000)]
    with with_file(setting, tmp_path, path) as edge:
        replace(tmp_path / "admin.sock", tmp_path / MAP_NAME, iter([*others, *map_lines(path, ENVIRONMENT)]))
        assert httpx.post(edge.url + CHAT, json={}, headers={"x-api-key": key}).status_code == 200


def test_the_map_has_no_key_in_it(tmp_path: Path) -> None:
    """Only digests; the file is for this user alone."""
    file, (key,) = with_keys("acme")
    own, line = map_lines(written(file, tmp_path), ENVIRONMENT)
    assert key not in own + line
    assert line.endswith(" acme 0")
    assert own.endswith(f" {OPERATOR} 0")
