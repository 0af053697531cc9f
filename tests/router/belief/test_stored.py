"""Requests that only one replica can serve."""

from dataclasses import replace
from random import Random

import pytest

from router import Reason, ReplicaId, Router, RoutingDecision, Shadow
from router.policies import POLICY_NAMES, make_policy
from tests.builders import make_replica, make_request, make_router


def choose(router: Router, request_id: str, replica_id: str, *, now: float = 0) -> RoutingDecision:
    """A request that continues a response stored at this replica."""
    request = replace(make_request(request_id, num_prompt_tokens=50), stored_at=ReplicaId(replica_id))
    decision = router.choose(request, now=now).decision
    router.check_integrity()
    return decision


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_it_goes_there_under_every_policy(name: str) -> None:
    """However much there is to do, while others are idle; and is booked there."""
    router = make_router(name, num_replicas=3)
    home = router.cluster.replicas[1]
    decisions = [choose(router, str(number), home.replica_id) for number in range(5)]
    assert {(each.replica_id, each.reason, each.policy) for each in decisions} == {
        (home.replica_id, Reason.STORED, name)
    }
    assert router.cluster.load_of(home).pending_tokens == 250


def test_it_goes_there_though_nothing_else_does() -> None:
    """The replica cannot be sure to answer; no other one can."""
    router = make_router(num_replicas=3)
    home = router.cluster.replicas[0].replica_id
    router.on_heard(home, is_serving=False, now=0)
    assert choose(router, "follow-up", home).replica_id == home
    assert router.choose(make_request("other", 1), now=0).decision.replica_id != home


def test_it_goes_by_the_policy_once_the_replica_is_gone() -> None:
    """Its replacement has the rank, but not what was stored."""
    router = make_router(num_replicas=2)
    gone = router.cluster.replicas[0].replica_id
    router.set_replicas(make_replica(rank, generation=1 - rank) for rank in range(2))
    assert choose(router, "follow-up", gone).reason is Reason.NO_KEY


def test_no_shadow_is_asked() -> None:
    """There was nothing to choose, so no other choice would have been better or worse."""
    router = make_router(num_replicas=2)
    router.shadows = (Shadow(make_policy("round_robin", Random(0))),)
    assert choose(router, "follow-up", router.cluster.replicas[0].replica_id).shadows == ()
    assert len(router.choose(make_request("other", 1), now=0).decision.shadows) == 1
