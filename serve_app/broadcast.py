"""Delivery to every ingress router of an application, over Ray Serve's deployment handles."""

from collections.abc import Sequence

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serve_app.delivery import DeliveryError, Item, Send


def broadcast_to_routers(deployment: str, app_name: str, method: str, *, timeout_s: float) -> Send[Item]:
    """A `send` that calls `method` on every ingress router of the application."""
    handle = None

    async def send(batch: Sequence[Item]) -> None:
        nonlocal handle
        try:
            if handle is None:
                handle = serve.get_deployment_handle(deployment, app_name=app_name)
            results = await handle.broadcast(method, batch).results_async(timeout_s=timeout_s, return_exceptions=True)
        except (RayServeException, RayError, TimeoutError) as error:
            msg = f"{type(error).__name__} while calling {method}"
            raise DeliveryError(msg) from error
        failures = [result for result in results if isinstance(result, Exception)]
        if failures:
            msg = f"{len(failures)} of {len(results)} routers failed {method}: {type(failures[0]).__name__}"
            raise DeliveryError(msg)

    return send
