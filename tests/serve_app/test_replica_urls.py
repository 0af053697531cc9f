"""Finding the replicas' own ports."""

import httpx

from serve_app.replica_headers import REPLICA_HEADER
from serve_app.replica_urls import haproxy_servers, replica_urls


def test_haproxys_servers_are_read_once_each() -> None:
    """A replica is named in two backends."""
    config = """
backend app
    server SERVE_REPLICA_one 127.0.0.1:30001 check
    server fallback 127.0.0.1:8500 check backup
backend app-via-ingress-request-router
    use-server SERVE_REPLICA_one if { var(txn.target) -m str "SERVE_REPLICA_one" }
    server SERVE_REPLICA_one 127.0.0.1:30001 track app/SERVE_REPLICA_one
    timeout server 5s
"""
    assert haproxy_servers(config) == ["127.0.0.1:30001", "127.0.0.1:8500"]


def test_only_who_names_itself_is_a_replica() -> None:
    """A router answers too, and a replica that is just leaving does not."""

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.port:
            case 1:
                return httpx.Response(200, headers={REPLICA_HEADER: "app#LLM#one"})
            case 2:
                return httpx.Response(404)
        raise httpx.ConnectError("refused")

    addresses = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
    assert replica_urls(addresses, transport=httpx.MockTransport(answer)) == {"app#LLM#one": "http://127.0.0.1:1"}
