"""What the commands are told in text, read: lists of numbers, policies, tenants, changes of membership."""

from dataclasses import dataclass
from pathlib import Path

from loadtests.replay.fleet import ChangeKind, MembershipChange
from loadtests.replay.rivals.table import ABLATION_NAMES, ALL_NAMES, installed_names
from loadtests.replay.tenants import servegen_weights
from loadtests.replay.workload import ReplayWorkload

NUM_REPLICAS = 8
KV_TOKENS = 500_000
LOAD = 0.8


class OptionError(ValueError):
    """A value that cannot be used; the message names the option, the value and what is expected."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas there are, and how much they are asked."""

    num_replicas: int
    kv_tokens: int
    """KV cache of each replica, in tokens."""
    loads: tuple[float, ...]
    """The rate of a generator, which stands in a load's place."""


def read_scale(
    workload: ReplayWorkload,
    *,
    replicas: int | None,
    kv_tokens: int | None,
    load: float | None,
    rate: float | None,
    sweep: str | None,
) -> Scale:
    """What was given, and the workload's defaults for the rest."""
    generator = workload.generator
    if generator is None:
        if rate is not None:
            raise OptionError(f"--rate {rate} is for generators, and {workload.trace} is a file: use --load")
        loads = dict.fromkeys((load or LOAD, *(read_numbers("--sweep", sweep) if sweep else ())))
        return Scale(replicas or NUM_REPLICAS, kv_tokens or KV_TOKENS, tuple(loads))
    if load is not None or sweep is not None:
        raise OptionError(f"--load and --sweep are for files, and {workload.trace} makes its own arrivals: use --rate")
    if workload.tenants or workload.num_copies > 1:
        raise OptionError(f"--tenants and --copies are for files; {workload.trace} has its own: leave them out")
    return Scale(replicas or generator.num_replicas, kv_tokens or generator.kv_tokens, (workload.rate,))


def read_policies(text: str) -> tuple[str, ...]:
    """Names, separated by commas."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name in ABLATION_NAMES:
            continue
        if name not in ALL_NAMES:
            raise OptionError(f"--policy {name} does not exist: use one or more of {', '.join(ALL_NAMES)}")
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
        change = MembershipChange(float(at_s), ChangeKind(what), int(rank))
    except ValueError as error:
        names = ", ".join(ChangeKind)
        raise OptionError(
            f"--change {text} is not WHAT:RANK@SECONDS, as in crash:3@120, with one of {names}"
        ) from error
    if not 0 <= change.at_s < float("inf"):
        raise OptionError(f"--change {text}: the time is before the start; use 0 or more seconds")
    return change
