"""Settings to Ray Serve's declarative config: what `warmroute serve` submits and a RayService carries."""

from typing import Any

from serve_app.settings.schema import OPS_APPLICATION, Settings

ROUTER_DEPLOYMENT = "IngressRouter"
SCALING = ("num_replicas", "autoscaling_config")
"""Of a deployment's options, what may change without a restart."""
APPLICATION_SETTINGS = {"llm", "engine", "tokenizer", "engine_model", "routers", "replicas", "access"}
"""What the application itself is built from."""
AUTOSCALING_DEFAULTS = {"target_ongoing_requests": 1_000_000_000}
"""Ray Serve LLM's, which it gives to arguments only: with bounds alone nothing is scaled. Serve's own would be 2."""


def serve_config(settings: Settings) -> dict[str, Any]:
    """The config of a cluster that runs this one application, and the operators' one beside it."""
    applications = [application_config(settings)]
    if settings.ops.enabled:
        applications.append(ops_config(settings))
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": settings.http.port},  # noqa: S104  HAProxy has no other mode
        "applications": applications,
    }


def application_config(settings: Settings) -> dict[str, Any]:
    """The application. Routing settings travel as `user_config`, so that changing them restarts nothing."""
    args = settings.model_dump(mode="json", include=APPLICATION_SETTINGS)
    scaling = _take_scaling(args["llm"])
    logging = {"logging_config": own_logging(settings)} if settings.replicas.log_requests else {}
    return {
        "name": settings.name,
        "route_prefix": settings.route_prefix,
        "import_path": "serve_app.app:build",
        "args": args,
        "deployments": [
            {"name": ROUTER_DEPLOYMENT, "user_config": settings.routing.model_dump(mode="json")},
            *([{"name": replica_deployment(settings.model_id), **scaling}] if scaling else []),
        ],
        **logging,
    }


def own_logging(settings: Settings) -> dict[str, Any]:
    """Serve's logging without its access log: of routers, a line for each delivery; of replicas that log each request
    themselves, the same once more.
    """
    return {"encoding": "JSON" if settings.replicas.log_requests else "TEXT", "enable_access_log": False}


def replica_deployment(model_id: str) -> str:
    """Its name, as Ray Serve LLM makes it."""
    return f"LLMReplica:{model_id.replace('/', '--').replace('.', '_')}"


def _take_scaling(llm: dict[str, Any]) -> dict[str, Any]:
    """How many replicas there shall be: not among the arguments, as Serve replaces all replicas where these change."""
    deployment = llm.get("deployment_config") or {}
    scaling = {name: deployment.pop(name) for name in SCALING if name in deployment}
    if scaling:
        deployment["num_replicas"] = 1  # which the scaling overrides; without any, Ray would have one of its own
    if isinstance(scaling.get("autoscaling_config"), dict):
        scaling["autoscaling_config"] = {**AUTOSCALING_DEFAULTS, **scaling["autoscaling_config"]}
    return scaling


def ops_config(settings: Settings) -> dict[str, Any]:
    """The operators' application, one in a cluster, which finds all others by itself."""
    return {
        "name": OPS_APPLICATION,
        "route_prefix": settings.ops.route_prefix,
        "import_path": "serve_app.ops.deployment:build",
        "args": settings.ops.model_dump(mode="json", include={"history", "applications", "open"}, exclude_none=True),
    }
