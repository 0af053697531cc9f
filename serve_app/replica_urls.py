"""Where the replicas of a cluster that was started on this machine listen themselves, past HAProxy and routers."""

import re
from pathlib import Path

from serve_app.settings import OPS_APPLICATION

HAPROXY_REPLICA = re.compile(rf"^\s*server\s+SERVE_REPLICA_(?!{OPS_APPLICATION}-)\S*-(\w+)\s+(\S+:\d+)", re.MULTILINE)
"""As Ray names servers in HAProxy's configuration. Beside them are the operators' application, which has no engine, and
Serve's own proxy, behind which are all replicas."""


def short_id(replica_id: str) -> str:
    """Of a full one, `SERVE_REPLICA::<application>#<deployment>#<short id>`."""
    return replica_id.rpartition("#")[2]


def replica_urls(run_dir: str) -> dict[str, str]:
    """By the short id of each replica behind the HAProxy of a run."""
    configs = sorted(Path(run_dir).rglob("haproxy.cfg"))
    return {replica: url for config in configs for replica, url in configured_urls(config.read_text()).items()}


def configured_urls(config: str) -> dict[str, str]:
    """The same in one configuration."""
    return {replica: f"http://{address}" for replica, address in HAPROXY_REPLICA.findall(config)}
