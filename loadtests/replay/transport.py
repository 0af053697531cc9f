"""How long a message travels, and what may go wrong on its way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Channel(StrEnum):
    """The kinds of messages."""

    RESERVATIONS = "reservations"
    """Messages from a router to every other."""
    RECEIPTS = "receipts"
    """Messages from a replica to every router."""
    KV_EVENTS = "kv_events"
    """KV events from a replica to every router, in a queue of their own."""


Effect = Callable[[float, Random], tuple[float, ...]]
"""What a fault makes of a message: from the time that it would travel to that of each copy, in seconds."""


def dropped(_delay_s: float, _rng: Random) -> tuple[float, ...]:
    """It never arrives."""
    return ()


def delayed(by_s: float) -> Effect:
    """Everything arrives later by that time, in order."""
    return lambda delay_s, _rng: (delay_s + by_s,)


def duplicated(within_s: float) -> Effect:
    """A second copy arrives up to that much later."""
    return lambda delay_s, rng: (delay_s, delay_s + rng.uniform(0, within_s))


def reordered(within_s: float) -> Effect:
    """Each message arrives up to that much later, so that later ones overtake it."""
    return lambda delay_s, rng: (delay_s + rng.uniform(0, within_s),)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to messages that are sent from `start_s` to `end_s`."""

    effect: Effect
    channels: frozenset[Channel]
    start_s: float
    end_s: float
    sender: str | None = None
    """Only this replica's or router's; None for everybody's."""
    receiver: str | None = None
    """Only those to this router; None for all."""

    def applies(self, channel: Channel, sender: str, receiver: str, *, now: float) -> bool:
        """Whether it happens to this message."""
        return (
            channel in self.channels
            and self.start_s <= now < self.end_s
            and self.sender in {None, sender}
            and self.receiver in {None, receiver}
        )


class Transport:
    """Decides each message's fate; the simulation does the carrying.

    Args:
        delay_s: how long every message travels.
        kv_delay_s: how long those of KV events do.
        faults: applied one after the other.
        rng: for the effects.

    """

    def __init__(self, *, delay_s: float, kv_delay_s: float, faults: Sequence[Fault], rng: Random) -> None:
        self._delay_s = delay_s
        self._kv_delay_s = kv_delay_s
        self._faults = faults
        self._rng = rng

    def delays(self, channel: Channel, *, sender: str, receiver: str, now: float) -> tuple[float, ...]:
        """The travel time of each copy of a message that arrives, in seconds."""
        copies: tuple[float, ...] = (self._kv_delay_s if channel is Channel.KV_EVENTS else self._delay_s,)
        for fault in self._faults:
            if fault.applies(channel, sender, receiver, now=now):
                copies = tuple(delay_s for copy_s in copies for delay_s in fault.effect(copy_s, self._rng))
        return copies
