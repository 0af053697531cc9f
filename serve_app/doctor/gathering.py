"""Collects the facts: asks the dashboard, joins the cluster, looks at its nodes, sends a request, asks the routers."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from textwrap import shorten
from urllib.parse import urlsplit

import httpx

from serve_app.control.readiness import probe
from serve_app.control.running_application import ApplicationError, connect
from serve_app.control.serve_api import ServeApi, ServeApiError
from serve_app.doctor.facts import Answer, Facts, Missing, ServeDetails
from serve_app.doctor.node_view import look_at_nodes
from serve_app.doctor.router_answers import router_reader, settle
from serve_app.doctor.target import Target
from serve_app.messages.response_headers import ENGINE_HEADER, REASON_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER
from serve_app.tenants.operator import operator_headers

CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_S = 60.0
SERVE_PORT = 8000
"""Serve's default, where its details do not tell."""
MAX_MESSAGE_CHARS = 300
HOST_AND_PORT = re.compile(r"\[?(?P<host>[^/\]]+)\]?:(?P<port>\d+)")


def gather(target: Target) -> Facts:
    """Everything that can be had; what cannot says why."""
    serve = _serve(target.dashboard_url)
    application = None if isinstance(serve, Missing) else serve.applications.get(target.application)
    url_error = _url_error(target.url)
    is_served = url_error is None and application is not None and application.status == "RUNNING"
    with _joined(target.ray_address) as problem:
        nodes = problem or look_at_nodes(_http_port(serve))
        read = router_reader(target.application, application)
        before = problem or read()
        answer = ask(target.url) if is_served else None
        routers = before if isinstance(before, Missing) else settle(read, before, now=time.monotonic, sleep=time.sleep)
    return Facts(
        target=target,
        serve=serve,
        driver_ray=version("ray"),
        nodes=nodes,
        url_error=url_error,
        routers=routers,
        answer=answer,
    )


def ask(url: str, *, transport: httpx.BaseTransport | None = None) -> Answer | Missing:
    """One request that costs a replica one token."""
    with httpx.Client(timeout=REQUEST_TIMEOUT_S, transport=transport, headers=operator_headers()) as client:
        try:
            model = _model(client, url)
            started_at = time.perf_counter()
            response = probe(client, f"{url}/v1/completions", model)
        except httpx.HTTPError as error:
            return Missing(f"{type(error).__name__} (waiting at most {REQUEST_TIMEOUT_S:.0f} s)")
    return Answer(
        response.status_code,
        milliseconds=(time.perf_counter() - started_at) * 1000,
        replica=response.headers.get(REPLICA_HEADER),
        reason=response.headers.get(REASON_HEADER),
        request_id=response.headers.get(REQUEST_ID_HEADER),
        engine=response.headers.get(ENGINE_HEADER),
        excerpt=shorten(response.text, MAX_MESSAGE_CHARS, placeholder=" ...") or "nothing",
    )


def _model(client: httpx.Client, url: str) -> str:
    """The name by which clients call the model. A wrong one is routed, and refused, all the same."""
    try:
        return str(client.get(f"{url}/v1/models").json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        return ""


def _serve(dashboard_url: str) -> ServeDetails | Missing:
    try:
        return ServeDetails.model_validate(ServeApi(dashboard_url).details())
    except ServeApiError as error:
        return Missing(shorten(str(error), MAX_MESSAGE_CHARS, placeholder=" ..."))
    except ValueError as error:  # not JSON, or not Serve's
        return Missing(f"what answers at {dashboard_url} is not Ray's dashboard ({type(error).__name__})")


def _http_port(serve: ServeDetails | Missing) -> int:
    options = None if isinstance(serve, Missing) else serve.http_options
    return SERVE_PORT if options is None else options.port


def _url_error(url: str) -> str | None:
    parts = urlsplit(url)
    return _connection_error(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def _connection_error(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


@contextmanager
def _joined(ray_address: str) -> Iterator[Missing | None]:
    """The cluster joined while the block runs, or the reason why not."""
    problem = _join(ray_address)
    try:
        yield problem
    finally:
        if problem is None:
            import ray

            ray.shutdown()


def _join(ray_address: str) -> Missing | None:
    if ray_address in {"", "local"}:  # for these, Ray would start a cluster
        return Missing(f"{ray_address!r} names no running cluster")
    match = HOST_AND_PORT.fullmatch(ray_address)
    error = None if match is None else _connection_error(match["host"], int(match["port"]))
    if error is not None:  # Ray itself would try for half a minute, and end the process
        return Missing(f"cannot join the Ray cluster at {ray_address}: {error}")
    try:
        connect(ray_address)
    except ApplicationError as failure:
        return Missing(shorten(str(failure), MAX_MESSAGE_CHARS, placeholder=" ..."))
    return None
