"""The running replicas of a deployment, as Serve's controller tells them.

Adapter: private names of Ray are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
from collections.abc import Callable, Sequence

import ray
from ray.serve._private.common import DeploymentID, DeploymentTargetInfo, RunningReplicaInfo
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace


def follow_replicas(
    deployment_id: DeploymentID, on_change: Callable[[Sequence[RunningReplicaInfo]], None], *, client_id: str
) -> LongPollClient:
    """Tell `on_change` of the running replicas, now and after each change, on this event loop.

    Returns:
        The client, which follows them as long as it is kept.

    """

    def on_targets(targets: DeploymentTargetInfo) -> None:
        on_change(targets.running_replicas)

    return LongPollClient(
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE),
        {(LongPollNamespace.DEPLOYMENT_TARGETS, deployment_id): on_targets},
        call_in_event_loop=asyncio.get_running_loop(),
        client_id=client_id,
    )
