"""What the checks judge: plain values, gathered by `gathering` and built by hand in tests.

Of what Serve answers, the models have only what a check reads, under the names that it has there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from serve_app.control.environment import data_path_environment
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.doctor.target import Target
from serve_app.edge.options import EDGE_VARIABLE, HAPROXY_VARIABLE
from serve_app.messages.snapshot import ReplicaSnapshot, RouterSnapshot
from serve_app.settings.schema import Settings

ROUTERS_PER_NODE = "RAY_SERVE_INGRESS_ROUTER_REPLICAS_PER_NODE"
HARD_STOP = "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"
KEYED_BODY_BYTES = "RAY_SERVE_HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE"
SERVER_TIMEOUT = "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"
EDGE_NUMBERS = ("RAY_SERVE_HAPROXY_MAXCONN", "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", SERVER_TIMEOUT)
NUMBERS = (ROUTERS_PER_NODE, HARD_STOP, KEYED_BODY_BYTES, *EDGE_NUMBERS)
"""The variables of the data path that the operator chooses: any number, but the same on every node."""
EDGE_TEXTS = (HAPROXY_VARIABLE, EDGE_VARIABLE)
"""Variables that the operator chooses too, of any text. Where the head has neither, there is no edge (edge.enabled)."""
RAY_DEFAULTS = {ROUTERS_PER_NODE: 1, HARD_STOP: 120, SERVER_TIMEOUT: 0}
"""The value that Ray takes where the variable is not set; 0 means no limit."""
HEARD_WITHIN_S = 5.0
"""Replicas send the routers a sign of life every half second (replicas.heartbeat_s)."""


def default_environment() -> dict[str, str]:
    """Every variable of the data path, with its value under the default settings."""
    return data_path_environment(Settings(llm={}))


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that could not be gathered."""

    why: str


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class HttpOptions(_Part):
    """Serve's HTTP options."""

    port: int


class ProxyDetails(_Part):
    """What Serve says of the proxy of one node."""

    status: str


class ReplicaDetails(_Part):
    """What Serve says of one replica or router."""

    replica_id: str
    state: str


class DeploymentDetails(_Part):
    """What Serve says of all replicas or all routers."""

    message: str
    target_num_replicas: int
    replicas: Sequence[ReplicaDetails]

    @property
    def running(self) -> list[str]:
        """The ids of those that Serve calls running."""
        return [replica.replica_id for replica in self.replicas if replica.state == "RUNNING"]


class ApplicationConfig(_Part):
    """The application's configuration, as deployed."""

    args: Mapping[str, Any] = {}


class ApplicationDetails(_Part):
    """What Serve says of one application."""

    status: str
    message: str
    deployments: Mapping[str, DeploymentDetails]
    deployed_app_config: ApplicationConfig | None = None

    @property
    def routers(self) -> DeploymentDetails | None:
        """The ingress routers; None in an application that is not ours."""
        return self.deployments.get(ROUTER_DEPLOYMENT)

    @property
    def has_headers(self) -> bool:
        """Whether answers say that they are routed (`replicas.explain_headers`)."""
        replicas = self.deployed_app_config.args.get("replicas") if self.deployed_app_config else None
        return not isinstance(replicas, Mapping) or replicas.get("explain_headers") != "off"

    @property
    def server(self) -> DeploymentDetails | None:
        """The replicas' deployment."""
        deployments = self.deployments.items()
        return next((deployment for name, deployment in deployments if name != ROUTER_DEPLOYMENT), None)


class ServeDetails(_Part):
    """What Serve says of the cluster."""

    http_options: HttpOptions | None = None
    proxies: Mapping[str, ProxyDetails] = {}
    """Each node's proxy, by the node's id."""
    applications: Mapping[str, ApplicationDetails] = {}

    @property
    def proxy_nodes(self) -> frozenset[str]:
        """Nodes that have a proxy and keep it."""
        return frozenset(node_id for node_id, proxy in self.proxies.items() if proxy.status != "DRAINING")


@dataclass(frozen=True, slots=True)
class PortView:
    """A port of HAProxy on one node."""

    number: int
    accepts: bool
    """Whether it takes connections."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a worker process sees on its node."""

    versions: Mapping[str, str | None]
    environment: Mapping[str, str | None]
    ports: Mapping[str, PortView]
    """Each port by what HAProxy uses it for."""
    replica_ports: Sequence[int]
    """The ports in use, among those that Serve gives to replicas and routers."""

    def number(self, variable: str) -> int:
        """A number from the environment as Ray takes it, where it is one."""
        value = self.environment.get(variable) or ""
        return int(value) if value.isdecimal() else RAY_DEFAULTS[variable]


@dataclass(frozen=True, slots=True)
class Node:
    """An alive node of the cluster."""

    node_id: str
    ip: str
    is_head: bool
    view: NodeView | Missing


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A router's count of a replica's sequences that did not return to what it was before ours."""

    router: str
    replica: str
    before: int
    after: int
    in_engine: int


@dataclass(frozen=True, slots=True)
class RouterAnswers:
    """What the routers said when all were asked."""

    snapshots: Sequence[RouterSnapshot]
    errors: Sequence[str] = ()
    """The types of the errors of routers that did not answer."""
    unsettled: Sequence[Unsettled] = ()
    """The counts that did not come down after the routed request, while we waited."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one small request through the client's URL."""

    status: int
    milliseconds: float
    replica: str | None
    """The replica's id; as the reason, told with `replicas.explain_headers: full` alone."""
    reason: str | None
    request_id: str | None
    """The id that a router gave the request; None without a router."""
    excerpt: str
    """The start of the body."""
    engine: str | None = None
    """The kind of engine, where it is not a real one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that the checks judge."""

    target: Target
    serve: ServeDetails | Missing
    driver_ray: str
    """The version of Ray that runs here."""
    nodes: Sequence[Node] | Missing
    url_error: str | None
    """Why the client's URL does not take connections."""
    routers: RouterAnswers | Missing
    answer: Answer | Missing | None
    """None where nothing was asked."""

    @property
    def application(self) -> ApplicationDetails | None:
        """The application to examine; None if it does not exist."""
        return None if isinstance(self.serve, Missing) else self.serve.applications.get(self.target.application)

    @property
    def is_routed(self) -> bool:
        """Whether a router chose who answered our request."""
        return isinstance(self.answer, Answer) and self.answer.request_id is not None

    @property
    def views(self) -> list[tuple[Node, NodeView]]:
        """The nodes that answered."""
        nodes = () if isinstance(self.nodes, Missing) else self.nodes
        return [(node, node.view) for node in nodes if isinstance(node.view, NodeView)]

    @property
    def reference(self) -> NodeView | None:
        """The node whose numbers count: the head, or the first that answered."""
        by_importance = sorted(self.views, key=lambda pair: not pair[0].is_head)
        return by_importance[0][1] if by_importance else None


def is_heard(replica: ReplicaSnapshot) -> bool:
    """Whether the replica's receipts arrive."""
    return replica.heard_s_ago is not None and replica.heard_s_ago <= HEARD_WITHIN_S
