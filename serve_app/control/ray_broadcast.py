"""Calls to every replica of a deployment, over Ray Serve's handles."""

from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_app.messages.delivery import DeliveryError


def handle_of(deployment: str, app_name: str) -> DeploymentHandle:
    """The handle with which to call a deployment.

    Raises:
        DeliveryError: Serve's controller does not know it, or is gone.

    """
    try:
        return serve.get_deployment_handle(deployment, app_name=app_name)
    except (RayServeException, RayError) as error:
        raise DeliveryError(f"{type(error).__name__}: no handle of {deployment}") from error


async def ask_all(handle: DeploymentHandle, method: str, *args: Any, timeout_s: float) -> list[Any]:  # noqa: ANN401
    """Call `method` on every running replica of a deployment; their answers, in which failed calls are exceptions.

    Raises:
        DeliveryError: none is running, or not all answered in time.

    """
    try:
        answers: list[Any] = await handle.broadcast(method, *args).results_async(
            timeout_s=timeout_s, return_exceptions=True
        )
    except (RayServeException, RayError, TimeoutError) as error:
        raise DeliveryError(f"{type(error).__name__} while calling {method}") from error
    return answers


async def answers_of(handle: DeploymentHandle, method: str, *args: Any, timeout_s: float) -> list[Any]:  # noqa: ANN401
    """The answers of `ask_all`, without the calls that failed."""
    answers = await ask_all(handle, method, *args, timeout_s=timeout_s)
    return [answer for answer in answers if not isinstance(answer, Exception)]
