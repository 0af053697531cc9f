"""Whether this node serves: for Kubernetes' readiness probes.

A node is ready once a request through its own proxy was placed by a router and answered by a replica. From then on it
is ready as long as its proxy is: a probe that went on asking the model would take busy nodes out, all at once.

That a router placed a request is seen by the id that it gave it. Where `replicas.explain_headers` is `off`, answers do
not carry one, and any answer of a replica is taken.
"""

from pathlib import Path

import httpx

from serve_app.messages.response_headers import REASON_HEADER, REQUEST_ID_HEADER
from serve_app.prompt.body import Unreadable

TIMEOUT_S = 10.0
HEALTH_PATH = "/-/healthz"
JSON_TYPE = "application/json"
NO_ID = "no router placed it, or replicas.explain_headers is off: then use `warmroute ready --any-answer`"


class NotReadyError(Exception):
    """The message says what is missing."""


def check_readiness(client: httpx.Client, mark: Path, *, any_answer: bool = False) -> None:
    """Check the node whose proxy the client asks.

    Args:
        client: with the proxy's address, the application's path if it has one, and the operator's key.
        mark: a file that says that a request was answered before; it goes when the container does.
        any_answer: see `is_routed`.

    Raises:
        NotReadyError: it is not.

    """
    try:
        if not mark.exists():
            _ask_model(client, any_answer=any_answer)
            mark.touch()
        response = client.get(client.base_url.copy_with(path=HEALTH_PATH))
    except httpx.TransportError as error:
        raise NotReadyError(f"no answer from {client.base_url} ({type(error).__name__})") from error
    if not response.is_success:
        raise NotReadyError(f"the proxy answers {response.status_code}: {response.text[:200]}")


def probe(client: httpx.Client, url: str, model: str) -> httpx.Response:
    """The answer to a request that costs a replica one token."""
    return client.post(url, json={"model": model, "prompt": "Hello", "max_tokens": 1})


def is_routed(response: httpx.Response, *, any_answer: bool) -> bool:
    """Whether a router placed the request, and a replica answered it.

    Any answer will do, a refusal under load as well: not every model completes prompts. A router that cannot tokenise
    yet does not count, where an answer tells (`replicas.explain_headers: full`).

    Args:
        response: to a prompt.
        any_answer: where answers do not say whether a router placed them, take any of a replica, which is JSON; the
            proxy's own are plain text.

    """
    if response.is_server_error:
        return False
    if any_answer:
        return str(response.headers.get("content-type", "")).startswith(JSON_TYPE)
    return REQUEST_ID_HEADER in response.headers and response.headers.get(REASON_HEADER) != Unreadable.STARTING


def described(response: httpx.Response) -> str:
    """Its status, and what it says of its way."""
    if REQUEST_ID_HEADER not in response.headers:
        return f"{response.status_code}, {REQUEST_ID_HEADER}: none"
    reason = response.headers.get(REASON_HEADER)
    return f"{response.status_code}, {REASON_HEADER}: {reason}" if reason else f"{response.status_code}, routed"


def _ask_model(client: httpx.Client, *, any_answer: bool) -> None:
    models = client.get("/v1/models")
    if not models.is_success:
        raise NotReadyError(f"no model is served: {models.status_code}")
    model = models.json()["data"][0]["id"]
    response = probe(client, "/v1/completions", model)
    if not is_routed(response, any_answer=any_answer):
        remedy = "" if REQUEST_ID_HEADER in response.headers else f"; {NO_ID}"
        raise NotReadyError(f"a request was answered {described(response)}{remedy}")
