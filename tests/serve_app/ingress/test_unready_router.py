"""A router process before its first replica."""

from typing import Any

import pytest

from router import NoReplicasError, ReplicaId
from serve_app.ingress.unready_router import UnreadyRouter
from serve_app.messages.receipts import BatchAnswer
from serve_app.parity.verdicts import Verdict
from serve_app.settings.schema import RoutingSettings

REPLICA = ReplicaId("replica-0")
ONLY_READY = {"core", "set_replicas"}
"""What the process asks only of a router that is ready."""


def public_names(router: type) -> set[str]:
    """Methods and attributes of a class that others use."""
    return {name for name in dir(router) if not name.startswith("_")}


def test_it_answers_whatever_a_ready_router_does() -> None:
    """So the process never has to know which one it has."""
    from serve_app.ingress.ready_router import ReadyRouter

    assert public_names(UnreadyRouter) == (public_names(ReadyRouter) | {"block_size"}) - ONLY_READY


async def test_it_knows_nothing() -> None:
    """A replica is told neither that it is known, nor that it is not, as one that has left would be."""
    router = UnreadyRouter()
    incoming: Any = None
    read: Any = None
    with pytest.raises(NoReplicasError):
        router.place(incoming)
    assert router.on_receipts(b"whatever") is BatchAnswer.UNDECIDED
    assert router.export(REPLICA) == router.prefixes_for(0) == router.places_of([()]) == router.hot_prefixes(9) == []
    assert (router.block_size, list(router.replicas), router.replica_snapshots(), router.num_remembered) == (
        None,
        [],
        {},
        0,
    )
    router.apply(RoutingSettings())
    router.on_reservations(b"whatever")
    router.on_states([b"whatever"])
    router.on_verdict(REPLICA, Verdict.OK)
    router.on_caches_reset()
    router.show_replicas()
    await router.judge_self_tests(read)
