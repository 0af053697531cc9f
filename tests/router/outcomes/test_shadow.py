"""Shadow mode: policies that are asked and do not steer."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Reason, Reservation, Router, RouteRequest, Shadow, ShadowChoice, ShadowFault, ShadowTotals
from router.cluster import Cluster
from router.policies import POLICY_NAMES, Choice, make_policy
from tests.builders import make_replica, make_request, make_router


class ToRank:
    """Always the same replica; remembers what it was told."""

    def __init__(self, rank: int, name: str = "to_rank") -> None:
        self.name = name
        self.rank = rank
        self.told: list[Reservation] = []

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The replica of that rank."""
        return Choice(next(each for each in cluster.replicas if each.rank == self.rank), Reason.BASELINE)

    def on_reserved(self, reservation: Reservation) -> None:
        """Kept."""
        self.told.append(reservation)


class Faulty(ToRank):
    """Raises from its second question on, or when it is told."""

    def __init__(self, *, when_told: bool) -> None:
        super().__init__(0, "faulty")
        self.num_asked = 0
        self._when_told = when_told

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """Once."""
        self.num_asked += 1
        if self.num_asked > 1:
            raise KeyError("asked")
        return super().choose(request, cluster)

    def on_reserved(self, reservation: Reservation) -> None:
        """Never, if so wanted."""
        if self._when_told:
            raise ValueError("told")
        super().on_reserved(reservation)


def make_shadows(names: Sequence[str]) -> tuple[Shadow, ...]:
    """Fresh ones, with dice of their own."""
    return tuple(Shadow(make_policy(name, Random(f"shadow {name}"))) for name in names)


def act(router: Router, action: str, number: int, prompt: list[int], now: float) -> object:
    """One event; what the router answers, without its shadows' part."""
    rank, request = number % 3, make_request(str(number), *prompt, session_id=f"session {number % 4}")
    members = router.cluster.replicas
    match action:
        case "choose":
            routed = router.choose(request, now=now)
            assert len(routed.decision.shadows) == len(router.shadows)
            return replace(routed.decision, shadows=()), routed.reservation
        case "prefill":
            router.on_prefilled(request.request_id, prompt_tokens=9, cached_tokens=number % 9, now=now)
        case "finish":
            router.on_finished(request.request_id, now=now)
        case "arrive":
            router.on_arrived(request.request_id, members[rank % len(members)].replica_id, now=now)
        case "fail":
            router.on_heard(members[rank % len(members)].replica_id, is_serving=False, now=now)
        case "replace":
            router.set_replicas(make_replica(each, generation=number if each == rank else 0) for each in range(3))
    router.check_integrity()
    return None


actions = st.tuples(
    st.sampled_from(["choose", "choose", "choose", "prefill", "finish", "arrive", "fail", "replace"]),
    st.integers(0, 9),
    st.lists(st.integers(1, 3), max_size=4),
)


@given(
    live=st.sampled_from(POLICY_NAMES),
    names=st.lists(st.sampled_from(POLICY_NAMES), min_size=1, max_size=4),
    traffic=st.lists(actions, max_size=30),
    is_faulty=st.booleans(),
)
def test_shadows_never_change_the_live_decision(
    live: str, names: list[str], traffic: list[tuple[str, int, list[int]]], *, is_faulty: bool
) -> None:
    """Whatever the policies and the traffic, also where one fails: the same answers, and in the end the same books."""
    alone, shadowed = make_router(live, num_replicas=3), make_router(live, num_replicas=3)
    shadowed.shadows = make_shadows(names)
    if is_faulty:
        shadowed.shadows += (Shadow(Faulty(when_told=True)), Shadow(Faulty(when_told=False)))
    for position, (action, number, prompt) in enumerate(traffic):
        assert act(shadowed, action, number, prompt, position) == act(alone, action, number, prompt, position)
    assert shadowed.cluster.replicas == alone.cluster.replicas
    for replica in alone.cluster.replicas:
        assert shadowed.export(replica.replica_id, now=0) == alone.export(replica.replica_id, now=0)


@given(prompts=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), max_size=20))
def test_the_live_policy_in_its_own_shadow_agrees(prompts: list[list[int]]) -> None:
    """It is asked on the state on which the live one decided, before that was booked."""
    router = make_router("prefix_affinity", num_replicas=4)
    router.shadows = make_shadows(["prefix_affinity"])
    for number, prompt in enumerate(prompts):
        decision = router.choose(make_request(str(number), *prompt), now=number).decision
        assert decision.shadows == (ShadowChoice("prefix_affinity", decision.replica_id, 0.0),)


@pytest.mark.parametrize(
    ("live", "shadow", "waiting_tokens", "expected"),
    [
        (0, 1, 0, 8),  # there 13 to compute, here 13 - 8 cached
        (1, 0, 0, -8),
        (0, 1, 3, 5),  # here 3 are waiting besides
        (0, 1, 8, 0),
        (0, 1, 20, -12),  # more than the cache saves
        (1, 0, 20, 12),
        (0, 0, 20, 0),
    ],
)
def test_regret_is_what_the_shadows_choice_would_have_cost_more(
    live: int, shadow: int, waiting_tokens: int, expected: float
) -> None:
    """Replica 0 has two of the prompt's three blocks of 4 cached, and is busy to some degree; replica 1 has nothing."""
    router = make_router(ToRank(0, "live"))
    before = router.choose(make_request("before", 1, 2), now=0).decision
    router.on_prefilled(before.request_id, prompt_tokens=9, cached_tokens=0, now=0)
    router.on_finished(before.request_id, now=0)
    if waiting_tokens:
        router.choose(make_request("waiting", num_prompt_tokens=waiting_tokens), now=0)
    router.policy, router.shadows = ToRank(live, "live"), (Shadow(ToRank(shadow)),)
    (answer,) = router.choose(make_request("asked", 1, 2, 3), now=0).decision.shadows
    assert answer == ShadowChoice("to_rank", make_replica(shadow).replica_id, expected)


def test_shadows_learn_what_really_happened() -> None:
    """Where our requests and a peer's went, not where they would have sent them; and each of them once."""
    ours, peer = make_router(ToRank(0)), make_router(ToRank(1))
    policy = ToRank(1)
    ours.shadows = (Shadow(policy),)
    reservations = [ours.choose(make_request("a", 1), now=0).reservation]
    reservations.append(peer.choose(make_request("b", 1), now=0).reservation)
    for reservation in reservations:
        ours.on_reserved(reservation, now=0)
    assert policy.told == reservations


@pytest.mark.parametrize("when_told", [True, False])
def test_a_shadow_that_fails_is_out_and_says_why(when_told: bool) -> None:
    """It is not asked again, since its state may lack a reservation; others go on, and a new one starts again."""
    router = make_router(ToRank(0, "live"))
    faulty, other = Faulty(when_told=when_told), ToRank(1, "other")
    router.shadows = (Shadow(faulty), Shadow(other))
    answers = [router.choose(make_request(str(number), 1), now=0).decision.shadows for number in range(4)]
    assert isinstance(answers[0][0], ShadowChoice)
    faults = [fault for fault, _ in answers[1:]]
    assert isinstance(faults[0], ShadowFault)
    assert (faults[0].policy, type(faults[0].error)) == ("faulty", ValueError if when_told else KeyError)
    assert faults == faults[:1] * 3
    assert faulty.num_asked == (1 if when_told else 2)
    assert len(other.told) == 4
    assert all(isinstance(choice, ShadowChoice) for _, choice in answers)


def test_totals_keep_regret_and_gain_apart() -> None:
    """Four answers and a failure."""
    router, totals = make_router(ToRank(0, "live")), ShadowTotals()
    decision = router.choose(make_request("a", 1), now=0).decision
    here, there = make_replica(0).replica_id, make_replica(1).replica_id
    choices = [(here, 0.0), (there, 7.5), (there, 2.0), (there, -3.0)]
    for answer in (*(ShadowChoice("s", *choice) for choice in choices), ShadowFault("s", ValueError())):
        totals.add(answer, decision)
    assert totals == ShadowTotals(decisions=4, agreements=1, regret_tokens=9.5, gain_tokens=3.0, failures=1)
