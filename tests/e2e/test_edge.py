"""What HAProxy refuses, what routers and replicas believe, on a running server. `tests/serve_app/edge` has the rest."""

from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from router import ReplicaId, RequestId
from serve_app.local.cluster import LocalRun
from serve_app.messages.response_headers import EXPLAIN_PREFIX, REASON_HEADER, UNROUTED
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.settings.cluster_secret import derived_key

NOTE = RoutingNote(RequestId("forged"), ReplicaId("elsewhere"), "prefix_affinity", "prefix", 10**9, 0)


@pytest.mark.parametrize("path", ["/metrics", "/load", "/docs", "/openapi.json", "/v1/load_lora_adapter", "/nothing"])
def test_only_clients_paths_are_open(client: httpx.Client, replica_client: httpx.Client, path: str) -> None:
    """Operators reach the others on a replica's own port."""
    refused = client.get(path)
    assert refused.status_code == HTTPStatus.NOT_FOUND
    assert refused.json()["error"]["message"] == "There is no such path for clients."
    assert not any(name.startswith(EXPLAIN_PREFIX) for name in refused.headers)
    if path == "/metrics":
        assert replica_client.get(path).status_code == HTTPStatus.OK


@pytest.mark.parametrize("header", ["x-request-id", "x-session-id"])
def test_a_name_that_is_no_text_is_refused(client: httpx.Client, run_model: str, header: str) -> None:
    """Here in words; where nobody stands before a replica, it is passed over (`serve_app.ingress.text_headers`)."""
    body = {"model": run_model, "prompt": "Hello", "max_tokens": 1}
    for value in (b"a\x01b", b"\xff\xfe"):
        refused = client.post("/v1/completions", json=body, headers={header.encode(): value})
        assert refused.status_code == HTTPStatus.BAD_REQUEST
        assert header in refused.json()["error"]["message"]


@pytest.mark.parametrize("key", ["the cluster's", "a guess"])
def test_a_replica_believes_signed_notes_alone(replica_client: httpx.Client, run_model: str, key: str) -> None:
    """Whoever reaches its port could otherwise make it count a billion tokens, and refuse others."""
    note = NOTE.encode(derived_key(NOTE_HEADER) if key == "the cluster's" else b"a guess")
    body = {"model": run_model, "prompt": "Hello", "max_tokens": 1}
    answered = replica_client.post("/v1/completions", json=body, headers={NOTE_HEADER: note})
    assert answered.status_code == HTTPStatus.OK
    assert (answered.headers[REASON_HEADER] == UNROUTED) is (key == "a guess")


def test_haproxy_listens_for_this_machine_alone(run: LocalRun) -> None:
    """Clients' port, statistics and metrics."""
    config = next(Path(run.run_dir).rglob("haproxy.cfg")).read_text()
    binds = [line.split()[1] for line in config.splitlines() if line.strip().startswith("bind ")]
    assert len(binds) == 3
    assert all(bind.startswith("127.0.0.1:") for bind in binds)
