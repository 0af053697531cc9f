"""What routers count, as named amounts, which can be added up, taken apart and stored. Pure."""

from collections.abc import Mapping
from typing import Any

from router import Funnel, Loss
from serve_app.telemetry.funnel_report import SUMS
from serve_app.telemetry.ttft import BOUNDS_S, KINDS, Histogram, Ttft

Amounts = Mapping[str, float]
"""By name: the funnel's sums, `lost.<cause>`, `ttft.<kind>.<class>` and `ttft.<kind>.sum_s`."""


def of_account(snapshot: Mapping[str, Any]) -> dict[str, float]:
    """All that a router has counted of some prompts since it started (`Account.as_snapshot`)."""
    funnel, ttft = snapshot["funnel"], snapshot["ttft"]
    amounts = {name: float(funnel[name]) for name in SUMS}
    amounts |= {f"lost.{cause}": float(tokens) for cause, tokens in funnel["lost"].items()}
    for kind in KINDS:
        amounts |= {f"ttft.{kind}.{index}": float(count) for index, count in enumerate(ttft[kind]["counts"])}
        amounts[f"ttft.{kind}.sum_s"] = ttft[kind]["sum_s"]
    return amounts


def funnel_of(amounts: Amounts) -> Funnel:
    """The funnel in them."""
    lost = {cause: round(amounts[f"lost.{cause.value}"]) for cause in Loss if amounts.get(f"lost.{cause.value}")}
    return Funnel(**{name: round(amounts.get(name, 0)) for name in SUMS}, lost=lost)


def ttft_of(amounts: Amounts) -> Ttft:
    """The times to first token in them."""
    return Ttft(
        **{
            kind: Histogram(
                [round(amounts.get(f"ttft.{kind}.{index}", 0)) for index in range(len(BOUNDS_S) + 1)],
                amounts.get(f"ttft.{kind}.sum_s", 0.0),
            )
            for kind in KINDS
        }
    )


def add_up(*parts: Amounts) -> dict[str, float]:
    """Their sum."""
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return total
