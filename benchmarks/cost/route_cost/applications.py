"""Three applications on one cluster: Warmroute's routers, and Ray's own, before replicas without engines."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.local.cluster import StartError, start_ray, stop
from serve_app.local.haproxy import replica_urls
from serve_app.settings import vllm_options
from serve_app.settings.schema import Settings

OURS = "warmroute"
RAY_PREFIX = "ray_prefix"
RAY_ROUND_ROBIN = "ray_round_robin"
NAMES = (OURS, RAY_PREFIX, RAY_ROUND_ROBIN)
NUM_REPLICAS = 4
READY_TIMEOUT_S = 120.0
POLL_S = 0.5
STAND_IN = "StandIn"
BACKEND = re.compile(r'\["http-([\w-]+)"\] = \{(.*)\}')
ROUTER_PORT = re.compile(r"port = (\d+)")
"""Both as Ray writes the routers' addresses for HAProxy."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses on this machine."""

    name_to_port: Mapping[str, int]
    """The port of one router of each application."""
    replica_to_url: Mapping[str, str]
    """The URLs of all replicas, by short id."""


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Addresses]:
    """The three, ready."""
    run = start_ray(settings)
    try:
        from ray import serve

        serve.start(http_options={"host": "0.0.0.0", "port": settings.http.port})  # noqa: S104  as HAProxy wants it
        for name, application in _applications(settings).items():
            serve.run(application, name=name, route_prefix=f"/{name}")
        ports = wait_for_router_ports(run.run_dir, NAMES, settings.routers.replicas_per_node)
        yield Addresses({name: ports[name][0] for name in NAMES}, replica_urls(run.run_dir))
    finally:
        import ray

        ray.shutdown()
        stop(run)


def wait_for_router_ports(run_dir: str, names: Iterable[str], num_routers: int) -> dict[str, list[int]]:
    """The ports by application, once HAProxy knows all routers of each: it is told a moment after Serve calls them
    ready, be it at the start or with new settings.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        ports = router_ports(run_dir)
        if all(len(ports.get(name, ())) == num_routers for name in names):
            return ports
        if time.monotonic() > deadline:
            msg = f"of {num_routers} routers each, HAProxy knows {ports} after {READY_TIMEOUT_S:.0f} s"
            raise StartError(msg)
        time.sleep(POLL_S)


def router_ports(run_dir: str) -> dict[str, list[int]]:
    """The routers' ports by application, from HAProxy's files of a run."""
    texts = [path.read_text() for path in Path(run_dir).rglob("ingress_request_router.lua")]
    return {
        app: [int(port) for port in ROUTER_PORT.findall(servers)]
        for text in texts
        for app, servers in BACKEND.findall(text)
    }


def _applications(settings: Settings) -> dict[str, Any]:
    from ray.llm._internal.serve.core.ingress.builder import _build_openai_ingress_request_router
    from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import PrefixCacheAffinityRouter
    from ray.serve.experimental.round_robin_router import RoundRobinRouter

    from serve_app.app import with_routers

    llm_config = vllm_options.parse(settings.llm)

    def with_rays_router(server: Any) -> Any:  # noqa: ANN401
        router = _build_openai_ingress_request_router(server=server, llm_config=llm_config)
        return server._with_ingress_request_router(router)  # noqa: SLF001

    return {
        OURS: with_routers(_stand_ins(RoundRobinRouter, sends_receipts=True), settings),
        RAY_PREFIX: with_rays_router(_stand_ins(PrefixCacheAffinityRouter, sends_receipts=False)),
        RAY_ROUND_ROBIN: with_rays_router(_stand_ins(RoundRobinRouter, sends_receipts=False)),
    }


def _stand_ins(request_router_class: Any, *, sends_receipts: bool) -> Any:  # noqa: ANN401
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    from benchmarks.cost.route_cost.stand_in import StandIn

    deployment = serve.deployment(
        serve.ingress()(StandIn),
        name=STAND_IN,
        num_replicas=NUM_REPLICAS,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": 0},
        request_router_config=RequestRouterConfig(request_router_class=request_router_class),
    )
    return deployment.bind(sends_receipts=sends_receipts)
