"""What can happen in the middle of a trace: to messages between routers and replicas, to routers, and to replicas."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from loadtests.replay.fleet import ChangeKind, MembershipChange
from loadtests.replay.results import Replay
from loadtests.replay.sharing import Sharing
from loadtests.replay.simulation import Restart, Scenario
from loadtests.replay.transport import Channel, Effect, Fault, delayed, dropped, duplicated, reordered

MID_TRACE = (0.25, 0.35, 0.45, 0.55, 0.65)
"""The times of the events, as shares of the trace's duration."""
FAULT_S = 10.0
AFTERMATH_S = 70.0
"""The requests that come so soon after an event count."""
REPLACED_AFTER_S = 30.0
RANK = 1
"""The rank of the replica that goes."""
RECEIPTS = frozenset({Channel.RECEIPTS})
RESERVATIONS = frozenset({Channel.RESERVATIONS})
BOTH = RECEIPTS | RESERVATIONS

Disturbance = Callable[[Sequence[float]], dict[str, Any]]
"""From the times of the events to the changed fields of a scenario."""


def disturbed(scenario: Scenario, name: str) -> Scenario:
    """The scenario with a disturbance of this name."""
    return replace(scenario, **DISTURBANCES[name](_times(scenario)))


def aftermath(run: Replay, scenario: Scenario) -> Replay:
    """The run with the requests alone that came soon after an event."""
    spans = [(at_s, at_s + AFTERMATH_S) for at_s in _times(scenario)]
    return replace(run, records=tuple(record for span in spans for record in run.arrived_within(*span)))


def _times(scenario: Scenario) -> list[float]:
    return [share * scenario.requests[-1].arrival_s for share in MID_TRACE]


def _shared(sharing: Sharing) -> Disturbance:
    return lambda _: {"sharing": sharing}


def _always(effect: Effect, channels: frozenset[Channel]) -> Disturbance:
    return lambda _: {"faults": (Fault(effect, channels, 0, inf),)}


def _lost(channels: frozenset[Channel], *, sender: str | None = None, receiver: str | None = None) -> Disturbance:
    return lambda times_s: {
        "faults": tuple(
            Fault(dropped, channels, at_s, at_s + FAULT_S, sender=sender, receiver=receiver) for at_s in times_s
        )
    }


def _restarted(*routers: int, is_adopting: bool) -> Disturbance:
    return lambda times_s: {"restarts": tuple(Restart(at_s, routers, is_adopting=is_adopting) for at_s in times_s)}


def _crashes(times_s: Sequence[float]) -> dict[str, Any]:
    kinds = ((0.0, ChangeKind.CRASH), (REPLACED_AFTER_S, ChangeKind.JOIN))
    return {
        "changes": tuple(MembershipChange(at_s + after_s, kind, RANK) for at_s in times_s for after_s, kind in kinds)
    }


def _leaves_and_joins(times_s: Sequence[float]) -> dict[str, Any]:
    kinds = (ChangeKind.LEAVE, ChangeKind.JOIN)
    return {"changes": tuple(MembershipChange(at_s, kinds[number % 2], RANK) for number, at_s in enumerate(times_s))}


ROUTER_DISTURBANCES: dict[str, Disturbance] = {
    "undisturbed": _shared(Sharing.ALL),
    "load shared without blocks": _shared(Sharing.LOAD_ONLY),
    "no reservations shared": _shared(Sharing.NO_RESERVATIONS),
    "receipts 1 s late": _always(delayed(1.0), RECEIPTS),
    "all messages reordered within 1 s": _always(reordered(1.0), BOTH),
    "all messages twice within 1 s": _always(duplicated(1.0), BOTH),
    "receipts lost for 10 s": _lost(RECEIPTS),
    "reservations lost for 10 s": _lost(RESERVATIONS),
    "receipts of one replica lost for 10 s": _lost(RECEIPTS, sender="replica-0"),
    "all messages to one router lost for 10 s": _lost(BOTH, receiver="router-1"),
    "one router replaced, which adopts its peer's state": _restarted(0, is_adopting=True),
    "one router replaced, which starts empty": _restarted(0, is_adopting=False),
    "both routers replaced, which start empty": _restarted(0, 1, is_adopting=False),
}
"""What happens to two routers; the others are compared with the first."""
REPLICA_DISTURBANCES: dict[str, Disturbance] = {
    "crashes, replaced after 30 s": _crashes,
    "a replica leaves and joins": _leaves_and_joins,
}
DISTURBANCES = ROUTER_DISTURBANCES | REPLICA_DISTURBANCES
