"""Where the replicas of a cluster that was started on this machine listen themselves, past HAProxy and routers."""

import re
from collections.abc import Iterable
from pathlib import Path

import httpx

from serve_app.replica_headers import REPLICA_HEADER

HAPROXY_SERVER = re.compile(r"^\s*server\s+\S+\s+(\S+:\d+)", re.MULTILINE)


def haproxy_addresses(run_dir: str) -> list[str]:
    """Everything behind HAProxy, each address once: replicas, routers and Serve's fallback proxy."""
    configs = sorted(Path(run_dir).rglob("haproxy.cfg"))
    return list(dict.fromkeys(address for config in configs for address in haproxy_servers(config.read_text())))


def haproxy_servers(config: str) -> list[str]:
    """The addresses in one configuration, each once."""
    return list(dict.fromkeys(HAPROXY_SERVER.findall(config)))


def replica_urls(addresses: Iterable[str], *, transport: httpx.BaseTransport | None = None) -> dict[str, str]:
    """The URL of each replica by its full id: only replicas say who they are."""
    found = {}
    with httpx.Client(trust_env=False, transport=transport) as client:
        for url in (f"http://{address}" for address in addresses):
            try:
                replica_id = client.get(f"{url}/v1/models").headers.get(REPLICA_HEADER)
            except httpx.TransportError:
                continue
            if replica_id is not None:
                found[replica_id] = url
    return found
