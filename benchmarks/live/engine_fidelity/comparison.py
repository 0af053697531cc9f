"""The same requests, by real and by simulated engines. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from rich.table import Table

from benchmarks.live.engine_fidelity.recording import ServedTurn
from loadtests.report.statistics import percentile
from loadtests.report.tables import make_table

SIZES = (0, 150, 300, 600, 1200, 2400, math.inf)
"""Limits between sizes, in tokens."""


@dataclass(frozen=True, slots=True)
class FidelityComparison:
    """The same requests, in the same order, by both kinds of engines."""

    real: Sequence[ServedTurn]
    simulated: Sequence[ServedTurn]

    @property
    def num_alike(self) -> int:
        """Requests of which both reused the same number of tokens."""
        return sum(a.cached_tokens == b.cached_tokens for a, b in zip(self.real, self.simulated, strict=True))

    def faults(self) -> list[str]:
        """What must not be, in words: other prompts would be no comparison."""
        pairs = zip(self.real, self.simulated, strict=True)
        differing = sum(a.prompt_tokens != b.prompt_tokens for a, b in pairs)
        return [f"{differing} prompts have other lengths: the model or its template is another"] if differing else []

    def table(self) -> Table:
        """Tokens and times."""
        table = make_table(
            "One run, by real and by simulated engines (simulated figures are no measurement of a model)",
            left=("",),
            right=("real", "simulated", "simulated / real"),
        )
        for name in ("prompt_tokens", "cached_tokens"):
            real, simulated = (sum(getattr(each, name) for each in run) for run in (self.real, self.simulated))
            ratio = f"{simulated / real:.4f}" if real else "-"
            table.add_row(name.replace("_", " "), f"{real:,}", f"{simulated:,}", ratio)
        real_s, simulated_s = ([each.ttft_s for each in run] for run in (self.real, self.simulated))
        rows = {"mean": (fmean(real_s), fmean(simulated_s))}
        rows |= {f"p{share}": (percentile(real_s, share), percentile(simulated_s, share)) for share in (50, 95)}
        for name, (real, simulated) in rows.items():
            table.add_row(
                f"TTFT {name}, ms",
                *(f"{1000 * each:,.0f}" for each in (real, simulated, simulated / real)[:2]),
                f"{simulated / real:.3f}",
            )
        return table

    def size_table(self) -> Table:
        """Times by how much of a prompt was not cached."""
        table = make_table(
            "Medians, by the tokens of a prompt that were new to the real engine",
            left=("new tokens",),
            right=("requests", "prompt tokens", "TTFT real, ms", "simulated, ms"),
        )
        for low, high in pairwise(SIZES):
            pairs = [(a, b) for a, b in zip(self.real, self.simulated, strict=True) if low <= a.new_tokens < high]
            if pairs:
                prompt_tokens = median(a.prompt_tokens for a, _ in pairs)
                times_ms = (1000 * median(each.ttft_s for each in run) for run in zip(*pairs, strict=True))
                sizes = f"{low:,} and more" if high == math.inf else f"{low:,} to {high - 1:,}"
                table.add_row(
                    sizes, f"{len(pairs)}", f"{prompt_tokens:,.0f}", *(f"{each_ms:,.0f}" for each_ms in times_ms)
                )
        return table

    def lines(self) -> list[str]:
        """What the table does not say."""
        pairs = list(zip(self.real, self.simulated, strict=True))
        off_ms = median(1000 * abs(b.ttft_s - a.ttft_s) for a, b in pairs)
        return [
            f"{self.num_alike} of {len(pairs)} requests reused exactly as many tokens.",
            f"Request by request, the times to the first token differ by {off_ms:,.0f} ms (median).",
        ]
