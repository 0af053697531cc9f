"""The latency of ordinary requests with large bodies at the same time, and without. Pure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table

from benchmarks.harness.load import outcome_counts
from benchmarks.live.large_bodies.sender import Sent
from loadtests.client.exchange import Exchange
from loadtests.report.statistics import percentile
from loadtests.report.tables import counts_text, make_table, milliseconds_text

MIB = 2**20
MARGIN_BYTES = MIB // 16
"""Room for the headers: a request must fit into HAProxy's buffer with them, or the router gets only its first part."""
ENOUGH = 0.9
"""The share of the wanted rate that the large bodies' sender must reach."""


class Alongside(StrEnum):
    """What else is sent while ordinary requests are measured."""

    NOTHING = "nothing"
    JUST_UNDER = "bodies just under the limit"
    JUST_OVER = "bodies just over the limit"

    def num_bytes(self, limit_bytes: int) -> int | None:
        """Bytes of each large body; None where there is none."""
        return {Alongside.JUST_UNDER: limit_bytes - MARGIN_BYTES, Alongside.JUST_OVER: limit_bytes + MARGIN_BYTES}.get(
            self
        )


ROUND = (Alongside.NOTHING, Alongside.JUST_UNDER, Alongside.NOTHING, Alongside.JUST_OVER)


@dataclass(frozen=True, slots=True)
class LatencyPhase:
    """A stretch of time with the same load throughout."""

    alongside: Alongside
    round_number: int
    exchanges: Sequence[Exchange]
    """The ordinary requests."""
    max_late_s: float
    sent: Sent | None
    """The large bodies."""
    unreadable: Counter[str]
    """What the routers could not read during the phase, by their reason."""


Measure = Callable[[Exchange], float | None]
MEASURES: dict[str, Measure] = {"first byte": lambda each: each.first_byte_s, "total": lambda each: each.duration_s}


@dataclass(frozen=True, slots=True)
class LargeBodiesOutcome:
    """What came of all phases."""

    phases: Sequence[LatencyPhase]

    def of(self, alongside: Alongside, *, round_number: int | None = None) -> list[Exchange]:
        """The ordinary requests that were sent at the same time."""
        return [
            each
            for phase in self.phases
            if phase.alongside is alongside and round_number in (None, phase.round_number)
            for each in phase.exchanges
        ]

    def large(self, alongside: Alongside) -> list[Sent]:
        """The large bodies sent."""
        return [phase.sent for phase in self.phases if phase.alongside is alongside and phase.sent is not None]

    def unreadable(self, alongside: Alongside) -> Counter[str]:
        """What the routers could not read while this was sent, by their reason."""
        return sum((phase.unreadable for phase in self.phases if phase.alongside is alongside), Counter[str]())

    def ratio(
        self, alongside: Alongside, measure: Measure, percent: int, *, round_number: int | None = None
    ) -> float | None:
        """A percentile of the latency, as a multiple of that with nothing else sent; None where either is missing."""
        with_it = latencies(self.of(alongside, round_number=round_number), measure)
        without = latencies(self.of(Alongside.NOTHING, round_number=round_number), measure)
        return percentile(with_it, percent) / percentile(without, percent) if with_it and without else None

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = []
        failed = [each for phase in self.phases for each in phase.exchanges if not each.is_complete]
        if failed:
            faults.append(f"{len(failed)} ordinary requests failed: {counts_text(outcome_counts(failed))}")
        for alongside in (Alongside.JUST_UNDER, Alongside.JUST_OVER):
            slow = [sent for sent in self.large(alongside) if sent.rate < ENOUGH * sent.burst.rate]
            if slow:
                rates = ", ".join(f"{sent.rate:.1f}" for sent in slow)
                faults.append(
                    f"{alongside}: only {rates} a second of {slow[0].burst.rate:.0f} were sent: lower --large-rate"
                )
        return faults


def latencies(exchanges: Sequence[Exchange], measure: Measure) -> list[float]:
    """Latencies of the complete requests, in seconds."""
    values = (measure(each) for each in exchanges if each.is_complete)
    return [value for value in values if value is not None]


def ordinary_table(result: LargeBodiesOutcome) -> Table:
    """Latency with and without, and its ratio over all rounds with the least and the greatest of a round."""
    table = make_table(
        "Ordinary requests",
        left=("sent at the same time", "outcomes"),
        right=[f"{name} ms\n{percent}" for name in MEASURES for percent in ("p50", "times", "p99", "times")],
    )
    for alongside in Alongside:
        exchanges = result.of(alongside)
        cells = []
        for measure in MEASURES.values():
            for percent in (50, 99):
                cells.append(milliseconds_text(latencies(exchanges, measure), percent))
                cells.append("" if alongside is Alongside.NOTHING else _ratio_text(result, alongside, measure, percent))
        table.add_row(alongside, counts_text(outcome_counts(exchanges)), *cells)
    return table


def _ratio_text(result: LargeBodiesOutcome, alongside: Alongside, measure: Measure, percent: int) -> str:
    numbers = {phase.round_number for phase in result.phases}
    ratio = result.ratio(alongside, measure, percent)
    each = [result.ratio(alongside, measure, percent, round_number=number) for number in sorted(numbers)]
    known = [value for value in each if value is not None]
    return "-" if ratio is None else f"{ratio:.2f}\n({min(known):.2f}-{max(known):.2f})"


def large_table(result: LargeBodiesOutcome) -> Table:
    """What the sender of large bodies reached, and what came of them."""
    table = make_table(
        "Large bodies",
        left=("size", "outcomes", "unreadable for the routers"),
        right=("sent", "not sent", "a second", "latest s", "CPU", "total ms\np50", "\np99"),
    )
    for alongside in (Alongside.JUST_UNDER, Alongside.JUST_OVER):
        bursts = result.large(alongside)
        if not bursts:
            continue
        durations = [duration for sent in bursts for duration in sent.durations_s]
        table.add_row(
            f"{bursts[0].burst.num_bytes:,} bytes",
            counts_text(sum((Counter(sent.outcomes) for sent in bursts), Counter())),
            counts_text(result.unreadable(alongside)),
            str(sum(sent.num_sent for sent in bursts)),
            str(sum(sent.num_unsent for sent in bursts) or ""),
            ", ".join(f"{sent.rate:.1f}" for sent in bursts),
            f"{max(sent.max_late_s for sent in bursts):.2f}",
            f"{max(sent.cpu_share for sent in bursts):.0%}",
            milliseconds_text(durations, 50),
            milliseconds_text(durations, 99),
        )
    return table
