"""What was measured, as tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.cost.route_cost.applications import NAMES, OURS, RAY_PREFIX, RAY_ROUND_ROBIN
from loadtests.report.statistics import percentile
from loadtests.report.tables import make_table

SHORT_NAMES = {OURS: "ours", RAY_PREFIX: "Ray prefix", RAY_ROUND_ROBIN: "Ray round robin"}


@dataclass(frozen=True, slots=True)
class CostCell:
    """What was asked: one line of the table."""

    num_tokens: int
    """The wanted tokens; the table shows what the router counted."""
    is_returning: bool
    connections: int
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class CostSample:
    """What one router, asked in one way, gave once."""

    latencies_s: Sequence[float]
    seconds: float
    """Seconds for all of them together."""
    router_cpu_s: float
    """CPU seconds of the router's process in that time."""

    @property
    def per_second(self) -> float:
        """Decisions."""
        return len(self.latencies_s) / self.seconds


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of all routers, asked in turn."""

    cell_to_samples: Mapping[CostCell, Mapping[str, Sequence[CostSample]]]
    cell_to_tokens: Mapping[CostCell, int]

    def per_second(self, cell: CostCell, name: str) -> float:
        """The median of the rounds."""
        return median(sample.per_second for sample in self.cell_to_samples[cell][name])

    def latency_ms(self, cell: CostCell, name: str, percent: int) -> float:
        """The median of the rounds' percentiles."""
        samples = self.cell_to_samples[cell][name]
        return median(percentile(sample.latencies_s, percent) for sample in samples) * 1000

    def cpu_ms(self, cell: CostCell, name: str) -> float:
        """CPU time of the router's process, for each decision."""
        samples = self.cell_to_samples[cell][name]
        return median(sample.router_cpu_s / len(sample.latencies_s) for sample in samples) * 1000

    def tables(self) -> list[Table]:
        """A line for each way of asking."""
        return [
            self._table("Decisions a second", lambda cell, name: f"{self.per_second(cell, name):,.0f}"),
            self._table(
                "Latency in ms, p50 / p99",
                lambda cell, name: f"{self.latency_ms(cell, name, 50):.2f} / {self.latency_ms(cell, name, 99):.1f}",
            ),
            self._table("The router's CPU for each, in ms", lambda cell, name: f"{self.cpu_ms(cell, name):.2f}"),
        ]

    def _table(self, title: str, text: Callable[[CostCell, str], str]) -> Table:
        names = [SHORT_NAMES[name] for name in NAMES]
        table = make_table(title, left=["prompts", "connections"], right=["tokens", *names])
        for cell, num_tokens in self.cell_to_tokens.items():
            how = f"{cell.connections}, {'kept' if cell.keep_alive else 'closed'}"
            cells = (text(cell, name) for name in NAMES)
            table.add_row("returning" if cell.is_returning else "cold", how, f"{num_tokens:,}", *cells)
        return table

    def as_json(self) -> list[dict[str, Any]]:
        """A record for each line and router."""
        return [
            {
                "prompt_tokens": self.cell_to_tokens[cell],
                "returning": cell.is_returning,
                "connections": cell.connections,
                "keep_alive": cell.keep_alive,
                "router": name,
                "per_second": [sample.per_second for sample in samples],
                "p50_ms": [percentile(sample.latencies_s, 50) * 1000 for sample in samples],
                "p99_ms": [percentile(sample.latencies_s, 99) * 1000 for sample in samples],
                "cpu_ms": [sample.router_cpu_s / len(sample.latencies_s) * 1000 for sample in samples],
            }
            for cell, name_to_samples in self.cell_to_samples.items()
            for name, samples in name_to_samples.items()
        ]


@dataclass(slots=True)
class Stalls:
    """Short prompts at a steady rate, without and with a long cold one every second: p99 of each pair, in seconds."""

    name_to_without: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    name_to_with: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})

    def added_ms(self, name: str) -> list[float]:
        """The difference of with and without, for each pair."""
        pairs = zip(self.name_to_with[name], self.name_to_without[name], strict=True)
        return [(with_s - without_s) * 1000 for with_s, without_s in pairs]

    def table(self, *, rate: float, short_tokens: int, long_tokens: int) -> Table:
        """A line for each router."""
        table = make_table(
            f"p99 of {short_tokens:,}-token prompts, half of them cold, {rate:.0f} a second, in ms: without, and with"
            f" a cold one of {long_tokens:,} tokens every second",
            left=["router"],
            right=["without", "with", "added, median", "added, each pair"],
        )
        for name in NAMES:
            added = self.added_ms(name)
            table.add_row(
                SHORT_NAMES[name],
                f"{median(self.name_to_without[name]) * 1000:.1f}",
                f"{median(self.name_to_with[name]) * 1000:.1f}",
                f"{median(added):.1f}",
                ", ".join(f"{each:.1f}" for each in added),
            )
        return table

    def as_json(self) -> dict[str, Any]:
        """All pairs."""
        return {
            name: {"without_ms": [s * 1000 for s in self.name_to_without[name]], "added_ms": self.added_ms(name)}
            for name in NAMES
        }
