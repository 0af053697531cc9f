"""A running application, seen from a process outside the cluster: its policy, its caches, its routers' view."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Self

from serve_app.control.serve_api import ServeApi, ray_token
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.messages.snapshot import RouterSnapshot

CHANGE_TIMEOUT_S = 60.0
POLL_S = 0.1
COMING_OR_GOING = ("STARTING", "RECOVERING", "STOPPING", "STOPPED")
"""Serve's states of a replica that answers no one. `UPDATING` is none of them: one that takes new settings goes on."""


class ApplicationError(Exception):
    """The application is not there, or does not do as told."""


def connect(ray_address: str) -> None:
    """Join a running cluster as a Ray driver, quietly, with Ray's token where there is one.

    The process that started the cluster is its driver already.

    Raises:
        ApplicationError: Ray cannot, or will not because its version here is another.

    """
    if ray_token() is not None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's default only where it starts the cluster itself
    import ray.serve  # sets its logger's level when imported
    from ray.exceptions import RayError

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if ray.is_initialized():
        return
    try:
        ray.init(address=ray_address, log_to_driver=False, logging_level="error")
    except (RayError, OSError, RuntimeError, ValueError) as error:
        msg = f"cannot join the Ray cluster at {ray_address}: {error}"
        raise ApplicationError(msg) from error


class RunningApplication:
    """Connects to the cluster as a Ray driver; use as a context manager."""

    def __init__(self, name: str, *, ray_address: str, dashboard_url: str) -> None:
        self._name = name
        self._api = ServeApi(dashboard_url)
        details = self._api.application(name)
        if details is None:
            msg = f"no application {name!r} at {dashboard_url}"
            raise ApplicationError(msg)
        connect(ray_address)
        from ray import serve

        server = next(each for each in details["deployments"] if each != ROUTER_DEPLOYMENT)
        self._replicas = serve.get_deployment_handle(server, app_name=name)
        self._routers = serve.get_deployment_handle(ROUTER_DEPLOYMENT, app_name=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()

    def routers(self) -> list[RouterSnapshot]:
        """The snapshot of every router that Serve lists; one that is taking new settings is not among them."""
        answers = self._routers.broadcast("snapshot").results(timeout_s=CHANGE_TIMEOUT_S)
        return [RouterSnapshot.from_plain(answer) for answer in answers]

    def policy(self) -> str:
        """The policy in force."""
        return self.routers()[0].policy

    def block_size(self) -> int:
        """Tokens in an engine block."""
        block_size = self.routers()[0].block_size
        assert block_size is not None, "the routers know no replica yet"
        return block_size

    def kv_capacity_tokens(self) -> int:
        """KV cache of all replicas."""
        return sum(replica.kv_capacity_tokens for replica in self.routers()[0].replicas.values())

    def set_policy(self, policy: str) -> None:
        """Change the policy, and wait until every router has it."""
        self._api.change_routing(self._name, {"policy": policy}, router_deployment=ROUTER_DEPLOYMENT)
        self._wait(lambda: all(router.policy == policy for router in self._all_routers()), f"routing by {policy}")

    def reset_caches(self) -> None:
        """Empty every replica's prefix cache, and the routers' belief in it, once nothing is running."""
        self.wait_until_idle()
        self.reset_engines()
        self._ask_all("on_caches_reset")

    def reset_engines(self) -> None:
        """Empty every replica's prefix cache without a word to the routers."""
        self._replicas.broadcast("reset_prefix_cache").results(timeout_s=CHANGE_TIMEOUT_S)

    def wait_until_idle(self) -> None:
        """Wait until no router counts a request as outstanding."""

        def is_idle() -> bool:
            replicas = [replica for router in self._all_routers() for replica in router.replicas.values()]
            return all(replica.outstanding == 0 for replica in replicas)

        self._wait(is_idle, "idle")

    def _all_routers(self) -> list[RouterSnapshot]:
        return [RouterSnapshot.from_plain(answer) for answer in self._ask_all("snapshot")]

    def _ask_all(self, method: str) -> list[Any]:
        """Serve does not list routers that take new settings, so a call may not reach all; then it is repeated."""
        answers: list[Any] = []

        def is_complete() -> bool:
            answers[:] = self._routers.broadcast(method).results(timeout_s=CHANGE_TIMEOUT_S)
            return len(answers) >= self._num_routers()

        self._wait(is_complete, f"all there for {method}")
        return answers

    def _num_routers(self) -> int:
        details = self._api.application(self._name)
        replicas = [] if details is None else details["deployments"][ROUTER_DEPLOYMENT]["replicas"]
        return sum(each["state"] not in COMING_OR_GOING for each in replicas)

    @staticmethod
    def _wait(is_done: Callable[[], bool], wanted: str) -> None:
        deadline = time.monotonic() + CHANGE_TIMEOUT_S
        while not is_done():
            if time.monotonic() > deadline:
                msg = f"the routers are not {wanted} after {CHANGE_TIMEOUT_S:.0f} s"
                raise ApplicationError(msg)
            time.sleep(POLL_S)
