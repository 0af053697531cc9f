"""The composition root: settings to a Ray Serve application."""

from ray import serve
from ray.llm._internal.serve.core.ingress.builder import _build_direct_streaming_llm_deployment
from ray.serve import Application

from serve_app.control.environment import replica_environment, router_environment
from serve_app.control.serve_config import ROUTER_DEPLOYMENT, own_logging
from serve_app.engines.options import replica_options
from serve_app.ingress.deployment import IngressRouter
from serve_app.replica.deployment import LLMReplica
from serve_app.settings import vllm_options
from serve_app.settings.schema import Settings

MAX_ROUTER_ONGOING_REQUESTS = 1000
"""Concurrent decisions and deliveries in one router at most, as in Ray's own LLMRouter."""


def build(args: Settings) -> Application:
    """Serve's `import_path`: replicas as the ingress, and the routers that HAProxy asks."""
    return with_routers(replicas(args, LLMReplica), args)


def replicas(args: Settings, replica_class: type[LLMReplica]) -> Application:
    """The replicas alone, without routers."""
    options = replica_options(args)
    # Serve's own default of 20 s cuts longer streams wherever a replica leaves.
    deployment = {"graceful_shutdown_timeout_s": args.replicas.drain_s, **options.get("deployment_config", {})}
    runtime = options.get("runtime_env") or {}
    runtime = {**runtime, "env_vars": {**replica_environment(), **runtime.get("env_vars", {})}}
    return _build_direct_streaming_llm_deployment(
        vllm_options.parse(
            {**options, "server_cls": replica_class, "deployment_config": deployment, "runtime_env": runtime}
        ),
        bind_kwargs={
            "router_deployment": ROUTER_DEPLOYMENT,
            "routers": args.routers.model_dump(),
            "replicas": args.replicas.model_dump(),
            "engine": args.engine,
            "tokenizer": args.tokenizer,
            "access": args.access.model_dump(),
        },
    )


def with_routers(server: Application, args: Settings) -> Application:
    """These replicas, with routers that choose among them."""
    env_vars = (args.llm.get("runtime_env") or {}).get("env_vars", {})
    router = serve.deployment(
        serve.ingress()(IngressRouter),
        name=ROUTER_DEPLOYMENT,
        max_ongoing_requests=MAX_ROUTER_ONGOING_REQUESTS,
        user_config=args.routing.model_dump(),
        logging_config=own_logging(args),
        # The routers load the same tokenizer as the engines, so they need the same environment.
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": {**env_vars, **router_environment()}}},
    )
    return server._with_ingress_request_router(  # noqa: SLF001
        router.bind(
            server=server,
            llm=args.llm,
            routers=args.routers.model_dump(),
            engine=args.engine,
            tokenizer=args.tokenizer,
            engine_model=args.engine_model.model_dump(),
            max_sequences=args.replicas.max_waiting_requests,
            access=args.access.model_dump(),
        )
    )
