"""An application routed by Ray's own routers, before the replicas that Warmroute's has. Runs in Ray's workers.

Adapter: private names of Ray are listed in tests/loadtests/bench/test_private_names.py.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadtests.bench.routings import RAY_ROUTINGS, RayRouting
from serve_app.serve_config import application_config
from serve_app.settings import Settings

if TYPE_CHECKING:
    from serve_app.delivery import Delivery
    from serve_app.receipts import Receipt

TREE_ACTOR = "LlmPrefixTreeActor"


def ray_application_config(settings: Settings, routing: RayRouting) -> dict[str, Any]:
    """For Serve: the same replicas under a name and path of their own."""
    own = settings.model_copy(update={"name": routing.name, "route_prefix": f"/{routing.name}"})
    config = application_config(own)
    return config | {"import_path": f"{__name__}:build_{routing.name}", "deployments": []}


def build_ray_prefix(args: Settings) -> Any:  # noqa: ANN401  Ray's Application
    """Serve's `import_path`; so are the next ones."""
    return _build(args, RAY_ROUTINGS["ray_prefix"].router_class)


def build_ray_consistent_hash(args: Settings) -> Any:  # noqa: ANN401
    """As `build_ray_prefix`."""
    return _build(args, RAY_ROUTINGS["ray_consistent_hash"].router_class)


def build_ray_round_robin(args: Settings) -> Any:  # noqa: ANN401
    """As `build_ray_prefix`."""
    return _build(args, RAY_ROUTINGS["ray_round_robin"].router_class)


def build_ray_prefix_learning(args: Settings) -> Any:  # noqa: ANN401
    """As `build_ray_prefix`, with a router that is not as shipped."""
    return _build(args, _learning_router())


def _build(args: Settings, router_class: Any) -> Any:  # noqa: ANN401
    """As Ray's `build_openai_app` does it, but for the replicas' class."""
    from ray.llm._internal.serve.core.ingress.builder import _build_openai_ingress_request_router
    from ray.serve.config import RequestRouterConfig

    from serve_app import llm_options
    from serve_app.app import replicas

    config = RequestRouterConfig(request_router_class=router_class)
    server = replicas(args, _silent_replica(), request_router_config=config)
    router = _build_openai_ingress_request_router(server=server, llm_config=llm_options.parse(args.llm))
    return server._with_ingress_request_router(router)  # noqa: SLF001


def _silent_replica() -> Any:  # noqa: ANN401
    """Warmroute's, whose receipts go nowhere: Ray's routers take none, and shall not pay for them."""
    from serve_app.delivery import Delivery
    from serve_app.replica import LLMReplica

    class SilentReplica(LLMReplica):
        def _make_delivery(self) -> "Delivery[Receipt]":
            async def drop(_: "Sequence[Receipt]") -> None:
                pass

            return Delivery(drop, interval_s=self._replicas.heartbeat_s, max_undelivered=1)

    return SilentReplica


def _learning_router() -> Any:  # noqa: ANN401
    """Ray's prefix router, which also hears what became of its choices.

    Under direct streaming Ray asks it for a choice, takes the first of the replicas that it names, and does not call
    `on_request_routed`, by which its tree learns. Here it is called, and of several replicas the one with the fewest
    requests is taken, both as without direct streaming.
    """
    from ray.serve.llm.request_router import PrefixCacheAffinityRouter

    class LearningRouter(PrefixCacheAffinityRouter):  # type: ignore[misc]  # Ray ships no types for it
        async def choose_replicas(self, candidate_replicas: Any, pending_request: Any = None) -> Any:  # noqa: ANN401
            ranks = await super().choose_replicas(candidate_replicas, pending_request)
            if pending_request is None or not ranks or not ranks[0]:
                return ranks
            probed = await self._probe_queue_lens(ranks[0], 0)
            known = [(length, index) for index, (_, length) in enumerate(probed) if length is not None]
            chosen = ranks[0][min(known)[1]] if known else ranks[0][0]
            self.on_request_routed(pending_request, chosen.replica_id, None)
            return [[chosen]]

    return LearningRouter


def empty_prefix_tree(application: str, deployment: str) -> None:
    """Make Ray's prefix routers forget: their common tree, an actor that outlives them, if this application has one."""
    import ray
    from ray.serve._private.constants import SERVE_NAMESPACE

    try:
        tree = ray.get_actor(TREE_ACTOR, namespace=f"{SERVE_NAMESPACE}::{application}::{deployment}")
    except ValueError:  # of other routers
        return
    replicas = list(ray.get(tree.getattr.remote("tenant_to_char_count")))
    ray.get(tree.remove_tenants.remote(replicas))
    ray.get(tree.add_tenants.remote(replicas, 0.0))
