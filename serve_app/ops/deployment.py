"""The operators' Serve application: one replica, apart from the models' applications."""

import asyncio
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from serve_app.ops.collector import Collector
from serve_app.ops.login import TOKEN_VARIABLE, Login
from serve_app.ops.ray_cluster import ServeCluster
from serve_app.ops.web import build as build_web


class Ops:
    """Reads the routers from its start on; Serve replaces it when reading has ended."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, history: str | None, applications: list[str] | None, *, is_open: bool
    ) -> None:
        self._collector = Collector(ServeCluster(applications), None if history is None else Path(history))
        self._is_open = is_open
        self._running = asyncio.create_task(self._collector.run())

    def check_health(self) -> None:
        """Raise what ended the reading (a hook of Serve)."""
        if self._running.done():
            self._running.result()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The web application (a hook of Serve)."""
        return build_web(self._collector, Login(os.environ.get(TOKEN_VARIABLE), is_open=self._is_open))


def build(args: dict[str, Any]) -> Application:
    """The application that Serve's `import_path` names."""
    deployment = serve.deployment(
        serve.ingress()(Ops),
        name="Ops",
        num_replicas=1,
        logging_config={"enable_access_log": False},  # a line for every look at the page otherwise
        ray_actor_options={"num_cpus": 0},
    )
    return deployment.bind(args.get("history"), args.get("applications"), is_open=args.get("open", False))
