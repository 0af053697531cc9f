"""What the command line names, checked."""

from collections.abc import Iterable, Sequence

from loadtests.bench.routings import RAY_ROUTINGS, ROUTING_NAMES
from loadtests.bench.traffic import WORKLOAD_NAMES
from loadtests.replay.options import OptionError


def read_workloads(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, in order.

    Raises:
        OptionError: one does not exist.

    """
    return _read("--workload", names, WORKLOAD_NAMES)


def read_routings(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, in order.

    Raises:
        OptionError: one does not exist, or its package is not installed.

    """
    once = _read("--routing", names, ROUTING_NAMES)
    if missing := [RAY_ROUTINGS[name].missing for name in once if name in RAY_ROUTINGS and RAY_ROUTINGS[name].missing]:
        raise OptionError(f"--routing {missing[0]}")
    return once


def _read(option: str, names: Iterable[str], allowed: Sequence[str]) -> tuple[str, ...]:
    once = tuple(dict.fromkeys(names))
    for name in once:
        if name not in allowed:
            raise OptionError(f"{option} {name} does not exist: use one or more of {', '.join(allowed)}")
    return once
