"""What is measured again and again during a soak, and what came of it."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.harness import processes
from benchmarks.harness.running_server import ServeReplica
from loadtests.report.statistics import at_quarters, slope, sparkline
from serve_app.messages.snapshot import RouterSnapshot, short_id

MEMORY = "MiB "
"""Series with this prefix are resident memory."""
ALONE = ("reservations_dropped", "tasks", "remembered")
"""Numbers that a router has of itself."""
SUMMED = ("pending_tokens", "waiting", "running", "believed_blocks")
"""Numbers that a router has for each replica."""


def router_series(routers: Sequence[RouterSnapshot]) -> dict[str, float]:
    """The numbers of each router, over all replicas."""
    series: dict[str, float] = {}
    for router in routers:
        replicas = router.replicas.values()
        name = f"router {short_id(router.router)}"
        series |= {f"{name} {key}": sum(getattr(replica, key) for replica in replicas) for key in SUMMED}
        series[f"{name} excluded"] = sum(replica.excluded is not None for replica in replicas)
        for counted in ("decisions", "unreadable", "refused"):
            series[f"{name} {counted}"] = sum(getattr(router, counted).values())
        series |= {f"{name} {key}": float(getattr(router, key)) for key in ALONE}
    return series


def memory_series(replicas: Iterable[ServeReplica], ranks: Mapping[str, int], run_dir: str) -> dict[str, float]:
    """Resident memory of routers, replicas' actors, their engines, and HAProxy.

    Args:
        replicas: as Serve lists them.
        ranks: of vLLM replicas, by short id; a replacement goes on with the series of its rank.
        run_dir: the run's folder.

    """
    haproxies = processes.haproxies(run_dir)
    groups: dict[str, list[psutil.Process]] = {"haproxy": haproxies}
    for each in replicas:
        if each.pid is None:
            continue
        try:
            actor = processes.actor(each.pid)
        except processes.ProcessError:
            continue  # it has just ended
        name = each.replica_id if each.is_router else str(ranks.get(each.replica_id, each.replica_id))
        groups[f"{'router' if each.is_router else 'replica'} {name}"] = [actor]
        if not each.is_router:
            groups[f"engine {name}"] = processes.engines(actor)
    sizes = {f"{MEMORY}{name}": processes.rss_mib(group) for name, group in groups.items()}
    known = {name: size for name, size in sizes.items() if size is not None}
    return known | {"haproxy processes": float(len(haproxies))}


def ranks_by_short_id(routers: Sequence[RouterSnapshot]) -> dict[str, int]:
    """The rank of each replica that any router knows."""
    return {short_id(replica_id): replica.rank for router in routers for replica_id, replica in router.replicas.items()}


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time."""

    at_s: float
    """Seconds since the start."""
    value: float


@dataclass(frozen=True, slots=True)
class Course:
    """How a series went. The slope and the change are those of the second half."""

    name: str
    quarters: tuple[float, float, float, float, float]
    slope_per_hour: float
    change: float
    spark: str

    @classmethod
    def of(cls, name: str, points: Sequence[Point]) -> Self:
        """The course of at least one point."""
        values = [point.value for point in points]
        second_half = points[len(points) // 2 :]
        return cls(
            name,
            at_quarters(values),
            slope([(point.at_s, point.value) for point in second_half]) * 3600,
            second_half[-1].value - second_half[0].value,
            sparkline(values),
        )


@dataclass(slots=True)
class Exclusions:
    """Counts how often each router excluded each replica."""

    counts: Counter[str] = field(default_factory=Counter)
    """Exclusions by the replica's rank and the cause."""
    _now_out: dict[tuple[str, str], str] = field(default_factory=dict)

    def look(self, routers: Sequence[RouterSnapshot]) -> None:
        """Look at every snapshot; an exclusion that goes on counts once."""
        for router in routers:
            for replica_id, replica in router.replicas.items():
                key = (router.router, replica_id)
                cause = replica.excluded
                if cause is None:
                    self._now_out.pop(key, None)
                elif self._now_out.get(key) != cause:
                    self._now_out[key] = cause
                    self.counts[f"rank {replica.rank} {cause}"] += 1


class Recorder:
    """Keeps every series, and writes each value to a CSV file at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name_to_points: dict[str, list[Point]] = {}

    def __enter__(self) -> Self:
        self._file = self._path.open("w", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(("seconds", "series", "value"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def record(self, at_s: float, series: Mapping[str, float]) -> None:
        """Values of one time."""
        for name, value in series.items():
            self.name_to_points.setdefault(name, []).append(Point(at_s, value))
            self._rows.writerow((f"{at_s:.1f}", name, f"{value:.6g}"))
        self._file.flush()

    def courses(self) -> list[Course]:
        """The course of every series, memory first."""
        names = sorted(self.name_to_points, key=lambda name: (not name.startswith(MEMORY), name))
        return [Course.of(name, self.name_to_points[name]) for name in names]
