"""Settings to Ray Serve's declarative config: what `warmroute serve` submits and a RayService carries."""

from typing import Any

from serve_app.settings import OPS_APPLICATION, Settings

ROUTER_DEPLOYMENT = "IngressRouter"


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
    logging = {"logging_config": {"encoding": "JSON"}} if settings.replicas.log_requests else {}
    return {
        "name": settings.name,
        "route_prefix": settings.route_prefix,
        "import_path": "serve_app.app:build",
        "args": settings.model_dump(mode="json", include={"llm", "engine", "engine_model", "routers", "replicas"}),
        "deployments": [{"name": ROUTER_DEPLOYMENT, "user_config": settings.routing.model_dump(mode="json")}],
        **logging,
    }


def ops_config(settings: Settings) -> dict[str, Any]:
    """The operators' application, one in a cluster, which finds all others by itself."""
    return {
        "name": OPS_APPLICATION,
        "route_prefix": settings.ops.route_prefix,
        "import_path": "serve_app.ops.deployment:build",
        "args": settings.ops.model_dump(mode="json", include={"history"}),
    }
