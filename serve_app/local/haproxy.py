"""The replicas that HAProxy knows in a cluster that was started on this machine, and where they listen themselves."""

import re
from contextlib import suppress
from pathlib import Path

from serve_app.edge.admin_socket import tell
from serve_app.settings.schema import OPS_APPLICATION

SERVER_NAME = rf"SERVE_REPLICA_(?!{OPS_APPLICATION}-)\S*-(\w+)"
"""As Ray names HAProxy's servers. Beside them are the operators' application, which has no engine, and Serve's own
proxy, behind which are all replicas."""
HAPROXY_REPLICA = re.compile(rf"^\s*server\s+{SERVER_NAME}\s+(\S+:\d+)", re.MULTILINE)


def replica_urls(run_dir: str) -> dict[str, str]:
    """The address of each replica behind the HAProxy of a run, by its short id."""
    configs = sorted(Path(run_dir).rglob("haproxy.cfg"))
    return {replica: url for config in configs for replica, url in configured_urls(config.read_text()).items()}


def known_replicas(run_dir: str) -> set[str]:
    """The short ids of those to which the HAProxy of a run sends new connections.

    Its configuration may name more: it is written before a new process reads it and takes over.
    """
    states = []
    with suppress(OSError):  # there is none yet
        states = [tell(path, "show servers state\n") for path in Path(run_dir).rglob("admin.sock")]
    return {replica for state in states for replica in re.findall(rf"\s{SERVER_NAME}\s", state)}


def configured_urls(config: str) -> dict[str, str]:
    """The same in one configuration."""
    return {replica: f"http://{address}" for replica, address in HAPROXY_REPLICA.findall(config)}
