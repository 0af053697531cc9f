"""An application routed by Ray's own routers, before the replicas that Warmroute's has. Runs in Ray's workers.

Adapter: private names of Ray are listed in tests/loadtests/bench/test_private_names.py.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from loadtests.bench.routings import RayRouting
from serve_app.control.serve_config import application_config
from serve_app.settings.schema import Settings

if TYPE_CHECKING:
    from serve_app.messages.delivery import Delivery
    from serve_app.replica.kv_events.merge import ReplicaMessage
    from serve_app.replica.serving_replica import OnAnswers

TREE_ACTOR = "LlmPrefixTreeActor"
LEARNING_ROUTER = "LearningRouter"


def ray_application_config(settings: Settings, routing: RayRouting) -> dict[str, Any]:
    """The configuration for Serve: the same replicas under a name and path of their own, with Ray's router.

    The replicas' engines have our scheduler where the settings' waiting order has it, so that only the routing differs.
    """
    deployment = {
        **settings.llm.get("deployment_config", {}),
        "request_router_config": {"request_router_class": routing.router_class},
    }
    replicas = settings.replicas.model_copy(update={"kv_events": False})  # they would go to our routers only
    own = settings.model_copy(update={"name": routing.name, "route_prefix": f"/{routing.name}", "replicas": replicas})
    config = application_config(own)
    config["args"]["llm"]["deployment_config"] = deployment
    if routing.reads_events:
        config["args"]["llm"]["runtime_env"] = _with_hash_seed(settings.llm.get("runtime_env") or {})
    return config | {"import_path": f"{__name__}:build", "deployments": []}


def _with_hash_seed(runtime_env: dict[str, Any]) -> dict[str, Any]:
    """Replicas name equal blocks alike, which Ray wants too: it sets this after it has read what replicas get."""
    return {**runtime_env, "env_vars": {"PYTHONHASHSEED": "0", **runtime_env.get("env_vars", {})}}


def build(args: Settings) -> Any:  # noqa: ANN401  Ray's Application
    """Serve's `import_path`: as Ray's `build_openai_app` does it, but for the replicas' class."""
    from ray.llm._internal.serve.core.ingress.builder import _build_openai_ingress_request_router

    from serve_app.app import replicas
    from serve_app.settings import vllm_options

    server = replicas(args, _silent_replica())
    router = _build_openai_ingress_request_router(server=server, llm_config=vllm_options.parse(args.llm))
    return server._with_ingress_request_router(router)  # noqa: SLF001


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Ray imports routers by name; this one is not made before Ray itself is imported."""
    if name == LEARNING_ROUTER:
        return _learning_router()
    raise AttributeError(name)


def _silent_replica() -> Any:  # noqa: ANN401
    """Warmroute's, whose receipts go nowhere: Ray's routers take none, and shall not pay for them."""
    from serve_app.messages.delivery import Delivery
    from serve_app.replica.deployment import LLMReplica

    class SilentReplica(LLMReplica):
        def _make_delivery(self, on_answers: "OnAnswers") -> "Delivery[ReplicaMessage]":  # noqa: ARG002  as the parent's
            async def drop(_: "Sequence[ReplicaMessage]") -> None:
                pass

            return Delivery(drop, interval_s=self._replicas.heartbeat_s, max_undelivered=1)

    return SilentReplica


@cache
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
