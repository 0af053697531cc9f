"""Whether this node serves: for Kubernetes' readiness probes.

A node is ready once a request through its own proxy was placed by a router and answered by a replica. From then on it
is ready as long as its proxy is: a probe that went on asking the model would take busy nodes out, all at once.
"""

from pathlib import Path

import httpx

from serve_app.replica_headers import REASON_HEADER, UNROUTED
from serve_app.request_body import Unreadable

TIMEOUT_S = 10.0
HEALTH_PATH = "/-/healthz"


class NotReadyError(Exception):
    """The message says what is missing."""


def check_readiness(client: httpx.Client, mark: Path) -> None:
    """Of the node whose proxy the client asks.

    Args:
        client: with the proxy's address, and the application's path if it has one.
        mark: a file that says that a request was answered before; it goes when the container does.

    Raises:
        NotReadyError: it is not.

    """
    try:
        if not mark.exists():
            _ask_model(client)
            mark.touch()
        response = client.get(client.base_url.copy_with(path=HEALTH_PATH))
    except httpx.TransportError as error:
        raise NotReadyError(f"no answer from {client.base_url} ({type(error).__name__})") from error
    if not response.is_success:
        raise NotReadyError(f"the proxy answers {response.status_code}: {response.text[:200]}")


def is_routed(response: httpx.Response) -> bool:
    """Whether a router that can tokenise placed the request, and a replica answered it.

    Any answer will do, a refusal under load as well: not every model completes prompts.
    """
    reason = response.headers.get(REASON_HEADER, UNROUTED)
    return not response.is_server_error and reason not in {UNROUTED, Unreadable.STARTING}


def described(response: httpx.Response) -> str:
    """Its status, and why it went where it went."""
    return f"{response.status_code}, {REASON_HEADER}: {response.headers.get(REASON_HEADER, UNROUTED)}"


def _ask_model(client: httpx.Client) -> None:
    models = client.get("/v1/models")
    if not models.is_success:
        raise NotReadyError(f"no model is served: {models.status_code}")
    model = models.json()["data"][0]["id"]
    response = client.post("/v1/completions", json={"model": model, "prompt": "Hello", "max_tokens": 1})
    if not is_routed(response):
        raise NotReadyError(f"a request was answered {described(response)}")
