"""Ray Serve's REST API, as far as Warmroute needs it: read the state, submit a config."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

APPLICATIONS_PATH = "/api/serve/applications/"


class ServeApiError(Exception):
    """The dashboard did not answer, or refused."""


class NoAnswerError(ServeApiError):
    """The dashboard did not answer; it may do so later."""


class ServeApi:
    """Client of one Ray dashboard."""

    def __init__(self, dashboard_url: str, *, timeout_s: float = 30.0) -> None:
        self._url = dashboard_url.rstrip("/")
        self._timeout_s = timeout_s
        token = ray_token()
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def details(self) -> dict[str, Any]:
        """The state of every application (Serve's `ServeInstanceDetails`)."""
        details: dict[str, Any] = self._call("GET").json()
        return details

    def application(self, name: str) -> dict[str, Any] | None:
        """The state of one application, or None."""
        application: dict[str, Any] | None = self.details().get("applications", {}).get(name)
        return application

    def deploy(self, config: dict[str, Any]) -> None:
        """Submit the cluster's whole config; returns at once, the work goes on in the cluster."""
        self._call("PUT", json=config)

    def change_routing(self, name: str, changes: Mapping[str, Any], *, router_deployment: str) -> None:
        """Change some of one application's routing settings, leaving everything else as it was submitted."""
        self._change(name, router_deployment, lambda deployment: deployment["user_config"].update(changes))

    def scale(self, name: str, num_replicas: int, *, deployment: str) -> None:
        """Change how many replicas of one of an application's deployments there shall be; those that stay go on."""
        self._change(name, deployment, lambda options: options.update(num_replicas=num_replicas))

    def _change(self, name: str, deployment_name: str, change: Callable[[dict[str, Any]], None]) -> None:
        applications = {
            app_name: details["deployed_app_config"]
            for app_name, details in self.details().get("applications", {}).items()
        }
        if name not in applications:
            msg = f"no application {name!r} at {self._url}; there is: {', '.join(applications) or 'none'}"
            raise ServeApiError(msg)
        deployments = {each["name"]: each for each in applications[name]["deployments"]}
        if deployment_name not in deployments:
            named = ", ".join(deployments) or "none"
            msg = f"the config of {name} says nothing of {deployment_name!r}, only of: {named}"
            raise ServeApiError(msg)
        change(deployments[deployment_name])
        self.deploy({"applications": list(applications.values())})

    def _call(self, method: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        try:
            response = httpx.request(
                method, self._url + APPLICATIONS_PATH, timeout=self._timeout_s, headers=self._headers, **options
            )
        except httpx.HTTPError as error:
            msg = f"no answer from the Ray dashboard at {self._url} ({type(error).__name__}): is the cluster running?"
            raise NoAnswerError(msg) from error
        if response.is_error:
            msg = f"the Ray dashboard at {self._url} answered {response.status_code}: {response.text[:2000]}"
            raise ServeApiError(msg)
        return response


def ray_token() -> str | None:
    """Ray's authentication token, from the places where Ray itself looks for it."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token is None:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        token = path.read_text() if path.exists() else ""
    return token.strip() or None
