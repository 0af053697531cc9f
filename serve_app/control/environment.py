"""The environment variables that put Ray Serve on Warmroute's data path.

Ray reads them when it is imported, so they must be set before that, on the head and on every worker.
"""

from pathlib import Path

from serve_app.edge.options import EDGE_VARIABLE, HAPROXY_VARIABLE, EdgeOptions
from serve_app.settings.schema import Settings

HAPROXY_PROGRAM = "warmroute-haproxy"
IMAGE_PROGRAMS = Path("/home/ray/anaconda3/bin")
"""Where Ray's images have what pip installs."""


def data_path_environment(settings: Settings, *, programs: Path = IMAGE_PROGRAMS) -> dict[str, str]:
    """What every Ray process of the cluster needs, wherever it runs.

    Args:
        settings: of the application.
        programs: the folder that has `warmroute-haproxy`, the same on every node.

    """
    edge = _edge_environment(settings, programs) if settings.edge.enabled else {}
    return edge | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
        "RAY_SERVE_INGRESS_REQUEST_ROUTER_FORWARD_BODY": "1",
        "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE": str(round(settings.routers.max_keyed_body_mib * 2**20)),
        "RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE": str(settings.routers.replicas_per_node),
        # A replica answers 503 when its engine died; nothing ran, so the request may be sent elsewhere.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure 503",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(settings.http.hard_stop_after_s),
        "RAY_SERVE_INGRESS_REQUEST_ROUTER_METRICS_ENABLED": "1",
    }


def _edge_environment(settings: Settings, programs: Path) -> dict[str, str]:
    edge = settings.edge
    options = EdgeOptions(
        host=settings.http.host,
        router_timeout_s=settings.routers.answer_timeout_s,
        router_retry_s=settings.routers.retry_s,
        head_timeout_s=edge.head_timeout_s,
        body_timeout_s=edge.body_timeout_s,
        max_connections_per_source=edge.max_connections_per_source,
        max_requests_per_s_per_source=edge.max_requests_per_s_per_source,
        max_head_kib=edge.max_head_kib,
        more_paths=edge.more_paths,
        certificate=None if edge.certificate is None else str(edge.certificate),
        tls_port=edge.tls_port,
        key_file=None if settings.access.key_file is None else str(settings.access.key_file),
    )
    return {
        HAPROXY_VARIABLE: str(programs / HAPROXY_PROGRAM),
        EDGE_VARIABLE: options.encode(),
        "RAY_SERVE_HAPROXY_MAXCONN": str(edge.max_connections),
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(edge.client_timeout_s),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(edge.server_timeout_s),
    }


def local_environment(run_dir: Path) -> dict[str, str]:
    """What a cluster of our own on a shared machine needs besides: its own files, and no telemetry."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run_dir / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run_dir / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run_dir / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(run_dir / "metrics.sock"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


def replica_environment() -> dict[str, str]:
    """What a replica's process needs besides: requests of which Serve and vLLM take no more than they should.

    A host that media may be fetched from could send vLLM on to any other one.
    """
    return {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.ingress.text_headers:middlewares",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    }


def router_environment() -> dict[str, str]:
    """What a router process needs besides: everything on one event loop, and decisions before all that Serve does.

    Serve runs an application's code in a thread of its own, and the handles by which it calls others in a third one,
    so that slow code cannot keep it from answering health checks. A router has none, and each decision would pay for
    two changes of threads and back.
    """
    return {
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.ingress.endpoint:middlewares",
    }
