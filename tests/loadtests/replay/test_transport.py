"""What happens to messages on their way."""

from random import Random

import pytest

from loadtests.replay.transport import (
    Channel,
    Effect,
    Fault,
    Transport,
    delayed,
    dropped,
    duplicated,
    reordered,
)

RECEIPTS = frozenset({Channel.RECEIPTS})
SEED = 1
DRAW = Random(SEED).uniform(0, 2)


def delays(
    *faults: Fault,
    channel: Channel = Channel.RECEIPTS,
    sender: str = "replica-0",
    receiver: str = "router-0",
    now: float = 10,
) -> tuple[float, ...]:
    """Of one message's copies; without fault it takes 0.1 s."""
    transport = Transport(delay_s=0.1, kv_delay_s=0.3, faults=faults, rng=Random(SEED))
    return transport.delays(channel, sender=sender, receiver=receiver, now=now)


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (dropped, ()),
        (delayed(1), (1.1,)),
        (duplicated(2), (0.1, 0.1 + DRAW)),
        (reordered(2), (0.1 + DRAW,)),
    ],
)
def test_a_fault_does_what_it_says_in_its_time(effect: Effect, expected: tuple[float, ...]) -> None:
    """From its start until just before its end."""
    fault = Fault(effect, RECEIPTS, start_s=10, end_s=20)
    assert delays(fault, now=10) == pytest.approx(expected)
    for now in (9.9, 20):
        assert delays(fault, now=now) == (0.1,)


def test_a_fault_spares_everybody_else() -> None:
    """Other channels, other senders, other receivers."""
    fault = Fault(dropped, RECEIPTS, 0, 99, sender="replica-0", receiver="router-0")
    assert delays(fault) == ()
    assert delays(fault, channel=Channel.RESERVATIONS) == (0.1,)
    assert delays(fault, channel=Channel.KV_EVENTS) == (0.3,)
    assert delays(fault, sender="replica-1") == (0.1,)
    assert delays(fault, receiver="router-1") == (0.1,)


def test_faults_add_up() -> None:
    """Each copy of a doubled message is late."""
    faults = [Fault(effect, RECEIPTS, 0, 99) for effect in (duplicated(0), delayed(1))]
    assert delays(*faults) == pytest.approx((1.1, 1.1))


def test_reordered_messages_overtake_each_other() -> None:
    """Sent 0.1 s apart and up to 2 s late, some arrive before an earlier one."""
    transport = Transport(delay_s=0.1, kv_delay_s=0.3, faults=[Fault(reordered(2), RECEIPTS, 0, 99)], rng=Random(SEED))
    arrivals_s = [
        now / 10 + delay_s
        for now in range(50)
        for delay_s in transport.delays(Channel.RECEIPTS, sender="a", receiver="b", now=now / 10)
    ]
    assert len(arrivals_s) == 50
    assert arrivals_s != sorted(arrivals_s)
    assert all(0.1 <= arrival_s - now / 10 <= 2.1 for now, arrival_s in enumerate(arrivals_s))
