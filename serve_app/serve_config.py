"""Settings to Ray Serve's declarative config: what `warmroute serve` submits and a RayService carries."""

from typing import Any

from serve_app.settings import Settings

ROUTER_DEPLOYMENT = "IngressRouter"


def serve_config(settings: Settings) -> dict[str, Any]:
    """The config of a cluster that runs this one application."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": settings.http.port},  # noqa: S104  HAProxy has no other mode
        "applications": [application_config(settings)],
    }


def application_config(settings: Settings) -> dict[str, Any]:
    """The application. Routing settings travel as `user_config`, so that changing them restarts nothing."""
    return {
        "name": settings.name,
        "route_prefix": settings.route_prefix,
        "import_path": "serve_app.app:build",
        "args": settings.model_dump(mode="json", include={"llm", "engine", "engine_model", "routers", "replicas"}),
        "deployments": [{"name": ROUTER_DEPLOYMENT, "user_config": settings.routing.model_dump(mode="json")}],
    }
