"""What the commands are told in text, read: lists of numbers, policies, tenants, changes of membership."""

from pathlib import Path

from loadtests.peers.table import POLICY_NAMES, installed_names
from loadtests.replay.fleet import Change, MembershipChange
from loadtests.replay.tenants import servegen_weights


class OptionError(ValueError):
    """A value that cannot be used; the message names the option, the value and what is expected."""


def read_policies(text: str) -> tuple[str, ...]:
    """Names, separated by commas."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in POLICY_NAMES:
            raise OptionError(f"--policy {name} does not exist: use one or more of {', '.join(POLICY_NAMES)}")
        if name not in installed_names():
            raise OptionError(f"--policy {name} needs a package that is not installed: install it, or leave {name} out")
    return names


def read_numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers above zero, separated by commas, in increasing order."""
    try:
        numbers = sorted({float(number) for number in text.split(",")})
    except ValueError as error:
        raise OptionError(f"{option} {text} is not a list of numbers: separate them by commas, as in 1,2.5") from error
    if not 0 < numbers[0] <= numbers[-1] < float("inf"):
        raise OptionError(f"{option} {text} has a number that is not above 0: leave it out")
    return tuple(numbers)


def read_tenants(text: str | None) -> tuple[tuple[str, float], ...]:
    """Weights separated by commas, or ServeGen's client summary and one of its models: `FILE:MODEL`."""
    if text is None:
        return ()
    path, colon, model = text.rpartition(":")
    if colon:
        return tuple(servegen_weights(Path(path), model).items())
    try:
        weights = [float(weight) for weight in text.split(",")]
    except ValueError as error:
        raise OptionError(f"--tenants {text} is neither weights, as in 5,3,1, nor FILE:MODEL") from error
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise OptionError(f"--tenants {text}: weights are not below 0, and one at least is above")
    return tuple((f"tenant-{number}", weight) for number, weight in enumerate(weights))


def read_change(text: str) -> MembershipChange:
    """`crash:3@120`: what happens, to which rank, and after how many seconds."""
    try:
        what, rank_and_time = text.split(":")
        rank, at_s = rank_and_time.split("@")
        change = MembershipChange(float(at_s), Change(what), int(rank))
    except ValueError as error:
        names = ", ".join(Change)
        raise OptionError(
            f"--change {text} is not WHAT:RANK@SECONDS, as in crash:3@120, with one of {names}"
        ) from error
    if not 0 <= change.at_s < float("inf"):
        raise OptionError(f"--change {text}: the time is before the start; use 0 or more seconds")
    return change
