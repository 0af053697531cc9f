"""HAProxy itself with our rules, before routers and replicas that fail as they are told."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from serve_app.edge.certificate import CertificateError, replace, watch
from serve_app.edge.options import TOKEN_HEADER, edge_token
from serve_app.local.haproxy import known_replicas, replica_urls
from serve_app.messages.routing_note import NOTE_HEADER
from serve_app.settings.cluster_secret import SECRET_VARIABLE
from tests.serve_app.edge.running import (
    SECRET,
    Edge,
    free_port,
    response,
    running_edge,
    write_config,
)
from tests.serve_app.edge.setting import CHAT, Setting, started

SLOW_S = 3600
"""Longer than any test waits."""
TIMEOUT_S = 30


@pytest.fixture
def edge(setting: Setting, tmp_path: Path) -> Iterator[Edge]:
    """With the usual options."""
    with started(setting, tmp_path) as edge:
        yield edge


def chat(edge: Edge, **headers: str) -> httpx.Response:
    """One request on a connection of its own."""
    return httpx.post(edge.url + CHAT, json={"model": "m"}, headers=headers, timeout=TIMEOUT_S)


def test_a_router_decides_and_is_shown_who_asks(setting: Setting, edge: Edge) -> None:
    """The replica gets the router's note, and no client's in its place."""
    answer = chat(edge, **{NOTE_HEADER: "forged", TOKEN_HEADER: "forged", "x-session-id": "mine"}).json()
    assert answer["replica"] == "a"
    assert answer["headers"][NOTE_HEADER] == "note;a"
    (question,) = [request for router in setting.routers for request in router.requests]
    assert question.line == "POST /internal/route HTTP/1.0"
    assert question.headers[TOKEN_HEADER] == edge_token({SECRET_VARIABLE: SECRET})
    assert question.headers["x-session-id"] == "mine"
    assert json.loads(question.body) == {"model": "m"}


@pytest.mark.parametrize(
    "answer",
    [response(b"{}", "503 Service Unavailable"), response(b"no json"), response(b'{"replica_id": ""}'), b""],
    ids=["an error", "no answer of ours", "no replica", "nothing"],
)
def test_where_no_router_decides_a_live_replica_answers(setting: Setting, edge: Edge, answer: bytes) -> None:
    """Without a note, and the body went to one router only."""
    setting.answers = [answer, answer]
    answered = chat(edge)
    assert answered.status_code == HTTPStatus.OK
    assert NOTE_HEADER not in answered.json()["headers"]
    assert setting.num_asked == 1


def test_requests_without_a_router_are_spread(setting: Setting, edge: Edge) -> None:
    """To the replica with the fewest connections."""
    setting.answers = [b"", b""]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: chat(edge, **{"x-wait-s": "0.3"}).json()["replica"], range(4)))
    assert sorted(answers) == ["a", "a", "b", "b"]


def test_a_slow_router_is_given_up_left_alone_and_asked_again(setting: Setting, tmp_path: Path) -> None:
    """No body goes to a second router, and later requests do not wait for those that failed."""
    with started(setting, tmp_path, router_timeout_s=0.2) as edge:
        setting.delays_s = [SLOW_S, SLOW_S]
        answers = [chat(edge) for _ in range(6)]
        assert {answer.status_code for answer in answers} == {HTTPStatus.OK}
        assert [len(router.requests) for router in setting.routers] == [1, 1]
        setting.delays_s = [0, 0]
        assert routed_again(edge), "the routers are asked again after a while"


def routed_again(edge: Edge) -> bool:
    """Whether requests have notes within the time of a test."""
    wait = threading.Event()
    return any(NOTE_HEADER in chat(edge).json()["headers"] or wait.wait(0.1) for _ in range(100))


def test_a_router_that_is_gone_costs_nothing(setting: Setting, tmp_path: Path) -> None:
    """Nothing of the body was sent to it, so the other one is asked."""
    setting.reset()
    gone = free_port()
    replicas = {name: replica.port for name, replica in setting.replicas.items()}
    with running_edge(tmp_path, routers=[gone, setting.routers[0].port], replicas=replicas) as edge:
        answers = [chat(edge).json()["headers"] for _ in range(4)]
    assert all(NOTE_HEADER in headers for headers in answers)


def test_paths_methods_ids_and_lengths(setting: Setting, edge: Edge) -> None:
    """What is refused has the OpenAI API's shape and reaches neither router nor replica."""
    refused = {
        "GET /metrics": (HTTPStatus.NOT_FOUND, {}),
        "POST /reset_prefix_cache": (HTTPStatus.NOT_FOUND, {}),
        "DELETE /v1/models": (HTTPStatus.METHOD_NOT_ALLOWED, {}),
        f"POST {CHAT}": (HTTPStatus.BAD_REQUEST, {"x-session-id": "a\x01b"}),
        "POST /v1/completions": (HTTPStatus.BAD_REQUEST, {"x-request-id": "x" * 257}),
        "POST /v1/messages": (HTTPStatus.BAD_REQUEST, {"x-session-id": b"\xff\xfe"}),
        "GET /v1/models": (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {"x-long": "x" * 70_000}),
        f"GET /{'x' * 9000}": (HTTPStatus.REQUEST_URI_TOO_LONG, {}),
    }
    for request, (status, headers) in refused.items():
        method, path = request.split()
        answer = httpx.request(method, edge.url + path, headers=headers)
        assert answer.status_code == status, request
        assert answer.json()["error"]["code"] == status
        assert answer.json()["error"]["message"]
    assert setting.num_asked == 0
    assert not any(replica.requests for replica in setting.replicas.values())
    for header in ({}, {"x-request-id": "id with spaces"}, {"x-session-id": ""}):
        assert httpx.get(edge.url + "/v1/models", headers=header).status_code == HTTPStatus.OK


@pytest.mark.parametrize("prefix", ["/", "/llm"])
def test_other_applications_have_their_own_paths(setting: Setting, tmp_path: Path, prefix: str) -> None:
    """Below and above the one with routers; no router is asked for them, and they take any method."""
    setting.reset()
    replicas = {name: replica.port for name, replica in setting.replicas.items()}
    routers = [router.port for router in setting.routers]
    with running_edge(tmp_path, routers=routers, replicas=replicas, prefix=prefix) as edge:
        below = edge.url + prefix.rstrip("/")
        for method in ("GET", "POST", "DELETE"):
            assert httpx.request(method, f"{below}/page/any/path").status_code == HTTPStatus.OK, method
        if prefix != "/":
            assert httpx.post(f"{edge.url}/any/path").status_code == HTTPStatus.OK
        assert setting.num_asked == 0
        assert httpx.post(f"{below}{CHAT}", json={}).status_code == HTTPStatus.OK
        assert httpx.post(f"{below}/pager", json={}).status_code == HTTPStatus.NOT_FOUND
        assert setting.num_asked == 1


def test_a_path_may_be_opened(setting: Setting, tmp_path: Path) -> None:
    """By the operator."""
    with started(setting, tmp_path, more_paths=["/metrics"]) as edge:
        assert httpx.get(f"{edge.url}/metrics").status_code == HTTPStatus.OK
        assert httpx.get(f"{edge.url}/load").status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",
    ],
    ids=["nothing", "half of the headers", "part of the body"],
)
def test_who_sends_slowly_is_told_so_and_gone(setting: Setting, tmp_path: Path, sent: bytes) -> None:
    """At the limit of each phase."""
    with started(setting, tmp_path, head_timeout_s=0.5, body_timeout_s=0.5) as edge, connection(edge) as client:
        client.sendall(sent)
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
        while client.recv(1000):
            pass
    assert setting.num_asked == 0


def test_an_answer_may_take_longer_than_a_client(setting: Setting, edge: Edge) -> None:
    """Limits on clients are none on engines."""
    config = (edge.folder / "haproxy.cfg").read_text()
    assert "timeout client 3600s" in config, "Ray's variable sets it (serve_app/control/environment.py)"
    assert chat(edge, **{"x-wait-s": "1.5"}).status_code == HTTPStatus.OK
    assert setting.num_asked == 1


def test_one_address_cannot_take_all_connections(setting: Setting, tmp_path: Path) -> None:
    """Others are served meanwhile; and it, once it has closed some."""
    with started(setting, tmp_path, max_connections_per_source=20) as edge:
        idle = [connection(edge) for _ in range(40)]
        kept = [client for client in idle if not is_closed(client)]
        assert len(kept) <= 20
        with pytest.raises(httpx.HTTPError):
            chat(edge)
        other = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=other) as client:
            assert client.post(edge.url + CHAT, json={}).status_code == HTTPStatus.OK
        for client in idle:
            client.close()
        assert eventually(lambda: served(edge))


def served(edge: Edge) -> bool:
    """Whether a request is answered now."""
    with contextlib.suppress(httpx.HTTPError):
        return chat(edge).status_code == HTTPStatus.OK
    return False


def test_one_address_cannot_take_all_requests(setting: Setting, tmp_path: Path) -> None:
    """It is told when to come again."""
    with started(setting, tmp_path, max_requests_per_s_per_source=0.5) as edge:
        answers = [httpx.get(f"{edge.url}/v1/models") for _ in range(8)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:3] == [HTTPStatus.OK] * 3
        assert statuses[-1] == HTTPStatus.TOO_MANY_REQUESTS
        assert answers[-1].headers["retry-after"] == "10"


def test_bodies_that_never_come_leave_no_memory_behind(setting: Setting, tmp_path: Path) -> None:
    """HAProxy's buffers for bodies are as large as the largest that routers read."""
    with started(setting, tmp_path, body_timeout_s=1) as edge:
        process = psutil.Process(edge.process.pid)
        before = process.memory_info().rss
        for _ in range(2):
            clients = [connection(edge) for _ in range(400)]
            for client in clients:
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
            for client in clients:
                assert client.recv(12) == b"HTTP/1.1 408"
                client.close()
        assert process.memory_info().rss - before < 48 * 2**20
        assert chat(edge).status_code == HTTPStatus.OK


def test_clients_addresses_and_forged_ones(edge: Edge) -> None:
    """The last one is HAProxy's word."""
    headers = chat(edge, **{"x-forwarded-for": "10.9.9.9"}).json()["headers"]
    assert headers["x-forwarded-for"].endswith("127.0.0.1")


def test_a_certificate_is_renewed_without_a_restart(setting: Setting, tmp_path: Path) -> None:
    """A file that is no certificate changes nothing; connections from then on see the new one."""
    path = tmp_path / "tls.pem"
    path.write_text(certificate("old.example"))
    tls_port = free_port()
    with started(setting, tmp_path, certificate=str(path), tls_port=tls_port) as edge:
        with httpx.Client(verify=False) as client:  # noqa: S501  it is signed by itself
            answer = client.post(f"https://127.0.0.1:{tls_port}{CHAT}", json={})
        assert answer.json()["headers"]["x-forwarded-proto"] == "https"
        assert chat(edge).status_code == HTTPStatus.OK
        assert served_name(tls_port) == "old.example"
        with pytest.raises(CertificateError, match="no start line"):
            replace(edge.folder / "admin.sock", path, "not one")
        turns = iter([path.write_text, lambda _: None])

        def wait(_seconds: float) -> None:
            """The file changes once; after the turn in which that is seen, the watch ends."""
            next(turns)(certificate("new.example"))

        with pytest.raises(StopIteration):
            watch(edge.folder / "admin.sock", path, wait=wait)
        assert served_name(tls_port) == "new.example"
        (watcher,) = psutil.Process(edge.process.pid).children()
        assert watcher.cmdline()[1:3] == ["-m", "serve_app.edge.certificate"]
    assert eventually(lambda: not watcher.is_running() or watcher.status() == psutil.STATUS_ZOMBIE)


def certificate(name: str) -> str:
    """A new one for this name, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    signed = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=1)).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (signed.public_bytes(Encoding.PEM) + private).decode()


def served_name(port: int) -> str:
    """Of the certificate that a new connection gets."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=TIMEOUT_S)
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def test_it_says_which_replicas_it_knows(setting: Setting, tmp_path: Path) -> None:
    """Not those that a configuration names which another process is about to read."""
    assert known_replicas(str(tmp_path)) == set()
    setting.reset()
    routers = [router.port for router in setting.routers]
    name_to_port = {name: replica.port for name, replica in setting.replicas.items()}
    with running_edge(tmp_path, routers=routers, replicas={"a": name_to_port["a"]}) as edge:
        ports = (edge.port, edge.metrics_port, edge.statistics_port)
        write_config(tmp_path, routers=routers, replicas=name_to_port, ports=ports)
        assert replica_urls(str(tmp_path)).keys() == {"a", "b"}
        assert known_replicas(str(tmp_path)) == {"a"}


def test_it_is_known_by_its_configuration_as_ray_knows_it(edge: Edge) -> None:
    """Ray counts and stops HAProxy's processes by it."""
    process = psutil.Process(edge.process.pid)
    assert "haproxy" in process.cmdline()[0]
    assert str(edge.folder / "haproxy.cfg") in process.cmdline()


def test_it_does_not_begin_without_its_rules(setting: Setting, tmp_path: Path) -> None:
    """The sentence is what Ray logs."""
    setting.reset()
    replicas = {"a": setting.replicas["a"].port}
    with (
        pytest.raises(AssertionError, match=r"WARMROUTE_SECRET has 5 characters.*HAProxy does not start"),
        running_edge(tmp_path, routers=[1], replicas=replicas, environment={SECRET_VARIABLE: "short"}),
    ):
        pass


def connection(edge: Edge) -> socket.socket:
    """A client's, before it has sent anything."""
    client = socket.create_connection(("127.0.0.1", edge.port))
    client.settimeout(TIMEOUT_S)
    return client


def is_closed(client: socket.socket) -> bool:
    """Whether the other side has ended it by now."""
    client.settimeout(0.05)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within the time of a test."""
    wait = threading.Event()
    return any(condition() or wait.wait(0.1) for _ in range(10 * TIMEOUT_S))
