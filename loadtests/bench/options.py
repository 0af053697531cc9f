"""What the command line names, checked."""

from collections.abc import Iterable, Sequence

from loadtests.bench.routings import ROUTING_NAMES
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
        OptionError: one does not exist.

    """
    return _read("--routing", names, ROUTING_NAMES)


def _read(option: str, names: Iterable[str], allowed: Sequence[str]) -> tuple[str, ...]:
    once = tuple(dict.fromkeys(names))
    for name in once:
        if name not in allowed:
            raise OptionError(f"{option} {name} does not exist: use one or more of {', '.join(allowed)}")
    return once
