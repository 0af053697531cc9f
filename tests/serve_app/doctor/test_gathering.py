"""How `warmroute doctor` gets its facts, as far as that needs no cluster.

Ray is imported where it is used: imported while tests are collected, it would have read its settings before the
end-to-end tests could choose how to join their cluster.
"""

import json
import pkgutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, Self

import httpx
import pytest
from pydantic import BaseModel

from serve_app.doctor.facts import (
    Answer,
    ApplicationConfig,
    ApplicationDetails,
    DeploymentDetails,
    HttpOptions,
    Missing,
    NodeView,
    ProxyDetails,
    ReplicaDetails,
    RouterAnswers,
    ServeDetails,
    Unsettled,
    default_environment,
    is_heard,
)
from serve_app.doctor.gathering import ask, gather
from serve_app.doctor.node_view import as_view, look_at_nodes, make_look
from serve_app.doctor.router_answers import SETTLE_TIMEOUT_S, as_answers, router_reader, settle
from serve_app.doctor.target import Target
from serve_app.ingress.inbox import Inbox
from serve_app.ingress.snapshot import replica_snapshots
from serve_app.messages.snapshot import EngineSnapshot
from serve_app.parity.verdicts import Verdicts
from tests.builders import make_request, make_router
from tests.snapshots import engine, replica, router

NOBODY = "127.0.0.1:9"
"""The discard port: nothing listens."""
HEAD, WORKER = "aa" * 28, "bb" * 28
SNAPSHOT = router(
    "r1",
    {
        "SERVE_REPLICA::app#LLMReplica#a": replica(
            waiting=1, running=2, heard_s_ago=None, engine=EngineSnapshot(running=2, kv_use=0.5)
        )
    },
)


@contextmanager
def listener() -> Iterator[int]:
    """A port where somebody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@contextmanager
def web_server(body: bytes) -> Iterator[str]:
    """The URL of something that answers everything with 200 and this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class TestGather:
    """What can be had without a cluster: the reasons."""

    def test_nothing_there_is_told_for_each_source(self) -> None:
        """Dashboard, Ray and URL, without waiting for Ray's own timeouts."""
        facts = gather(Target("app", f"http://{NOBODY}", f"http://{NOBODY}", NOBODY))
        assert isinstance(facts.serve, Missing)
        assert f"no answer from the Ray dashboard at http://{NOBODY}" in facts.serve.why
        assert facts.nodes == facts.routers == Missing(f"cannot join the Ray cluster at {NOBODY}: Connection refused")
        assert facts.url_error == "Connection refused"
        assert facts.answer is None

    @pytest.mark.parametrize("ray_address", ["", "local"])
    def test_no_address_starts_a_cluster(self, ray_address: str) -> None:
        """As Ray would."""
        facts = gather(Target("app", f"http://{NOBODY}", f"http://{NOBODY}", ray_address))
        assert facts.nodes == Missing(f"{ray_address!r} names no running cluster")

    def test_ray_s_refusal_is_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In one line."""

        def refuse(**_: object) -> None:
            raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.59.0")

        monkeypatch.setattr("ray.init", refuse)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it may be set while joining, and shall not stay
        facts = gather(Target("app", f"http://{NOBODY}", f"http://{NOBODY}", "auto"))
        words = "Version mismatch: The cluster was started with: Ray: 2.59.0"
        assert facts.nodes == Missing(f"cannot join the Ray cluster at auto: {words}")

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"applications": 7}'])
    def test_something_else_on_the_dashboards_port(self, body: bytes) -> None:
        """Told from a dashboard that is down; the URL takes connections, but is not asked for an application."""
        with web_server(body) as url:
            facts = gather(Target("app", url, url, NOBODY))
        assert isinstance(facts.serve, Missing)
        assert f"what answers at {url} is not Ray's dashboard" in facts.serve.why
        assert (facts.url_error, facts.answer) == (None, None)

    def test_a_running_application_is_asked(self) -> None:
        """Also where Ray cannot be joined. (This server refuses POST.)"""
        details = {"applications": {"app": {"status": "RUNNING", "message": "", "deployments": {}}}}
        with web_server(json.dumps(details).encode()) as url:
            facts = gather(Target("app", url, url, NOBODY))
        assert isinstance(facts.answer, Answer)
        assert facts.answer.status == 501

    @pytest.mark.parametrize(
        ("ours", "rays"),
        [
            (ServeDetails, "ServeInstanceDetails"),
            (HttpOptions, "HTTPOptionsSchema"),
            (ProxyDetails, "ProxyDetails"),
            (ApplicationDetails, "ApplicationDetails"),
            (ApplicationConfig, "ServeApplicationSchema"),
            (DeploymentDetails, "DeploymentDetails"),
            (ReplicaDetails, "ReplicaDetails"),
        ],
    )
    def test_serve_s_details_have_what_is_read(self, ours: type[BaseModel], rays: str) -> None:
        """Under the same names."""
        from ray.serve import schema

        assert ours.model_fields.keys() <= getattr(schema, rays).model_fields.keys()


class TestAsk:
    """One request through the client's URL."""

    def test_headers_become_facts(self) -> None:
        """The model is asked for first; the request costs one token."""
        requests: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            if request.method == "GET":
                return httpx.Response(200, json={"data": [{"id": "demo"}]})
            headers = {"x-warmroute-reason": "ring", "x-warmroute-replica": "a", "x-warmroute-request-id": "f00d"}
            return httpx.Response(200, headers=headers, text="{\n}")

        answered = ask("http://x/prefix", transport=httpx.MockTransport(answer))
        assert isinstance(answered, Answer)
        assert (answered.status, answered.reason, answered.replica, answered.request_id) == (200, "ring", "a", "f00d")
        assert answered.excerpt == "{ }"
        assert [request.url.path for request in requests] == ["/prefix/v1/models", "/prefix/v1/completions"]
        assert json.loads(requests[1].content) == {"model": "demo", "prompt": "Hello", "max_tokens": 1}

    @pytest.mark.parametrize("models", ["not JSON", "[]", '{"data": []}', '{"data": 7}'])
    def test_without_a_model_it_asks_all_the_same(self, models: str) -> None:
        """What counts is the routing."""

        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, text=models) if request.method == "GET" else httpx.Response(404)

        answered = ask("http://x", transport=httpx.MockTransport(answer))
        assert isinstance(answered, Answer)
        assert (answered.status, answered.reason, answered.excerpt) == (404, None, "nothing")

    def test_silence_is_named(self) -> None:
        """With how long was waited for it."""

        def answer(request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("", request=request)

        answered = ask("http://x", transport=httpx.MockTransport(answer))
        assert answered == Missing("ReadTimeout (waiting at most 60 s)")


def seen(outstanding: int, *, heard_s_ago: float | None = 0.1, in_engine: int = 0) -> RouterAnswers:
    """One router with one replica."""
    known = replica(waiting=outstanding, heard_s_ago=heard_s_ago, engine=engine(running=in_engine))
    return RouterAnswers([router("r", {"a": known})])


class TestSettle:
    """Waiting for the request's end to reach the routers."""

    @staticmethod
    def settle(*readings: RouterAnswers | Missing, before: int = 0) -> tuple[RouterAnswers | Missing, int]:
        """The result, and how many readings it took; the last one repeats, and each takes a second."""
        num_read = 0

        def read() -> RouterAnswers | Missing:
            nonlocal num_read
            num_read += 1
            return readings[min(num_read, len(readings)) - 1]

        result = settle(read, seen(before), now=lambda: float(num_read), sleep=lambda _: None)
        return result, num_read

    def test_it_ends_as_soon_as_the_count_is_back(self) -> None:
        """Where it was before the request."""
        assert self.settle(seen(2), seen(1), seen(0)) == (seen(0), 3)
        assert self.settle(seen(2), seen(1), seen(0), before=1) == (seen(1), 2)

    def test_a_count_that_stays_is_reported(self) -> None:
        """After the deadline, with the engine's own number beside it."""
        result, num_read = self.settle(seen(1, in_engine=3))
        assert isinstance(result, RouterAnswers)
        assert result.unsettled == (Unsettled("r", "a", before=0, after=1, in_engine=3),)
        assert num_read == SETTLE_TIMEOUT_S

    def test_one_moment_is_enough(self) -> None:
        """Other requests may have come since, while another fact is waited for."""
        result, num_read = self.settle(seen(1), seen(0, heard_s_ago=None), seen(1))
        assert (result, num_read) == (seen(1), 3)

    def test_a_replica_heard_of_just_now_is_heard(self) -> None:
        """Zero seconds are not never."""
        assert self.settle(seen(0, heard_s_ago=0.0))[1] == 1
        assert self.settle(seen(0, heard_s_ago=None))[1] == SETTLE_TIMEOUT_S

    def test_routers_that_fall_silent_end_it(self) -> None:
        """There is nothing more to wait for."""
        assert self.settle(seen(1), Missing("gone")) == (Missing("gone"), 2)


class TestRouterAnswers:
    """Snapshots as the routers send them."""

    def test_a_real_snapshot_is_understood(self) -> None:
        """One of a router that has heard nothing yet, and books a request."""
        core = make_router(num_replicas=2)
        core.choose(make_request("a", 1, 2), now=0)
        inbox = Inbox([].append, lambda *_: None)
        replicas = replica_snapshots(core, inbox, Verdicts(lambda *_: None), now=0)
        result = as_answers([router("r1", replicas).as_plain(), router("r2", {}, block_size=None).as_plain()])
        assert isinstance(result, RouterAnswers)
        ready, empty = result.snapshots
        assert sorted(replica.rank for replica in ready.replicas.values()) == [0, 1]
        assert sum(replica.outstanding for replica in ready.replicas.values()) == 1
        assert (empty.block_size, empty.replicas) == (None, {})

    def test_errors_are_kept_apart(self) -> None:
        """By their type; the message may hold anything."""
        result = as_answers([SNAPSHOT.as_plain(), TimeoutError("x")])
        assert isinstance(result, RouterAnswers)
        assert result.errors == ("TimeoutError",)
        (seen,) = result.snapshots[0].replicas.values()
        assert (seen.outstanding, is_heard(seen)) == (3, False)

    def test_another_version_is_told_by_what_it_lacks(self) -> None:
        """Instead of a traceback."""
        result = as_answers([{name: value for name, value in SNAPSHOT.as_plain().items() if name != "refused"}])
        lacking = "Object missing required field `refused`"
        assert result == Missing(f"the routers' snapshots are of another version of Warmroute ({lacking})")

    def test_all_routers_are_asked_through_one_handle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Made once: each handle keeps a connection to Serve."""
        results: list[object] = [[SNAPSHOT.as_plain()], TimeoutError()]
        asked: list[tuple[str, str]] = []

        class Handle:
            def __init__(self, deployment: str, app_name: str) -> None:
                asked.append((deployment, app_name))

            def broadcast(self, method: str) -> Self:
                assert method == "snapshot"
                return self

            def results(self, **_: object) -> object:
                result = results.pop(0)
                if isinstance(result, Exception):
                    raise result
                return result

        monkeypatch.setattr("ray.serve.get_deployment_handle", Handle)
        routers = {"message": "", "target_num_replicas": 1, "replicas": []}
        ours = ApplicationDetails(status="RUNNING", message="", deployments={"IngressRouter": routers})
        read = router_reader("app", ours)
        first = read()
        assert isinstance(first, RouterAnswers)
        assert [snapshot.router for snapshot in first.snapshots] == ["r1"]
        assert read() == Missing("no router answers (TimeoutError)")
        assert asked == [("IngressRouter", "app")]

    def test_another_application_has_no_routers_to_ask(self) -> None:
        """Nor is Ray asked to find them."""
        result = router_reader("app", None)()
        assert isinstance(result, Missing)
        assert "app has no deployment IngressRouter" in result.why


class FakeCluster:
    """Ray's functions, over three nodes of which one is dead; tasks run here, or fail as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.id_to_failure: dict[str, Exception | None] = {}
        self.cancelled: list[str] = []
        self.id_to_ports: dict[str, object] = {}
        for name in ("nodes", "remote", "wait", "get", "cancel"):
            monkeypatch.setattr(f"ray.{name}", getattr(self, name))

    def nodes(self) -> list[dict[str, Any]]:
        """As Ray lists them."""
        return [
            {"NodeID": HEAD, "Alive": True, "NodeManagerAddress": "h", "Resources": {"node:__internal_head__": 1.0}},
            {"NodeID": WORKER, "Alive": True, "NodeManagerAddress": "w", "Resources": {}},
            {"NodeID": "dead", "Alive": False, "NodeManagerAddress": "d", "Resources": {}},
        ]

    def remote(self, **options: object) -> Callable[[object], Self]:
        """The decorator; the task is this object itself."""
        assert options["num_cpus"] == 0

        def decorate(function: object) -> Self:
            self.function = function
            return self

        return decorate

    def options(self, *, scheduling_strategy: Any) -> SimpleNamespace:
        """The task, for one node; its reference is the node's id."""
        assert not scheduling_strategy.soft

        def start(variables: object, ports: object) -> str:
            assert set(default_environment()) <= set(variables)
            self.id_to_ports[scheduling_strategy.node_id] = ports
            return str(scheduling_strategy.node_id)

        return SimpleNamespace(remote=start)

    def wait(self, refs: list[str], **_: object) -> tuple[list[str], list[str]]:
        """Late are those that fail with TimeoutError."""
        late = [ref for ref in refs if isinstance(self.id_to_failure.get(ref), TimeoutError)]
        return [ref for ref in refs if ref not in late], late

    def get(self, ref: str) -> object:
        """What the task returns."""
        failure = self.id_to_failure.get(ref)
        if failure is not None:
            raise failure
        return make_look()([], {"http": ("", 9)})

    def cancel(self, ref: str, *, force: bool) -> None:
        """So that nothing is left behind."""
        assert force
        self.cancelled.append(ref)


class TestLookAtNodes:
    """The tasks, and what becomes of their answers."""

    def test_every_alive_node_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The head's proxy keeps Serve's port; a worker's may have another."""
        cluster = FakeCluster(monkeypatch)
        nodes = look_at_nodes(8001)
        assert not isinstance(nodes, Missing)
        assert [(node.node_id, node.ip, node.is_head) for node in nodes] == [(HEAD, "h", True), (WORKER, "w", False)]
        assert all(isinstance(node.view, NodeView) for node in nodes)
        haproxy = {"stats": ("RAY_SERVE_HAPROXY_STATS_PORT", 8404), "metrics": ("RAY_SERVE_HAPROXY_METRICS_PORT", 9101)}
        assert cluster.id_to_ports == {
            HEAD: {"http": ("", 8001), **haproxy},
            WORKER: {"http": ("RAY_SERVE_WORKER_PROXY_HTTP_PORT", 8001), **haproxy},
        }

    @pytest.mark.parametrize(
        ("failure", "why"),
        [
            ("builtins.TimeoutError", "no worker process there ran a task within 60 s"),
            ("ray.exceptions.WorkerCrashedError", "WorkerCrashedError: The worker died unexpectedly"),
        ],
    )
    def test_a_node_that_fails_says_why(self, monkeypatch: pytest.MonkeyPatch, failure: str, why: str) -> None:
        """The other is seen all the same."""
        cluster = FakeCluster(monkeypatch)
        cluster.id_to_failure[WORKER] = pkgutil.resolve_name(failure)()
        nodes = look_at_nodes(8000)
        assert not isinstance(nodes, Missing)
        head, worker = nodes
        assert isinstance(head.view, NodeView)
        assert isinstance(worker.view, Missing)
        assert why in worker.view.why
        assert cluster.cancelled == ([WORKER] if "Timeout" in failure else [])

    def test_a_cluster_that_breaks_meanwhile_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Instead of a traceback."""
        from ray.exceptions import RaySystemError

        def fail() -> None:
            raise RaySystemError("GCS is gone")

        FakeCluster(monkeypatch)
        monkeypatch.setattr("ray.nodes", fail)
        nodes = look_at_nodes(8000)
        assert isinstance(nodes, Missing)
        assert "GCS is gone" in nodes.why


class TestLook:
    """The task that looks at a node from inside."""

    def test_it_sees_environment_versions_and_ports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As the node's own process does."""
        with listener() as port, listener() as replica_port:
            monkeypatch.setenv("SET", "1")
            monkeypatch.delenv("UNSET", raising=False)
            monkeypatch.setenv("PORT", str(port))
            monkeypatch.setenv("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", str(replica_port))
            monkeypatch.setenv("RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT", str(replica_port))
            view = as_view(make_look()(["SET", "UNSET"], {"moved": ("PORT", 9), "dead": ("", 9)}))
        assert view.environment == {"SET": "1", "UNSET": None}
        assert view.versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert view.versions.keys() == {"ray", "vllm", "python"}
        assert {use: (each.number, each.accepts) for use, each in view.ports.items()} == {
            "moved": (port, True),
            "dead": (9, False),
        }
        assert view.replica_ports == [replica_port]

    def test_it_travels_without_our_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A node may have another version of it, or none."""
        from ray import cloudpickle

        pickled = cloudpickle.dumps(make_look())
        for module in [name for name in sys.modules if name.partition(".")[0] == "serve_app"]:
            monkeypatch.setitem(sys.modules, module, None)  # makes importing it fail
        assert cloudpickle.loads(pickled)([], {})["environment"] == {}
