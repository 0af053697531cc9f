"""Who scales: our policy, Serve's default, or none; each with its number."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from loadtests.replay.options import OptionError
from serve_app.settings.schema import AUTOSCALING_POLICY


class Rule(StrEnum):
    """How the number of replicas comes about."""

    UNCACHED_WORK = "uncached_work"
    """Ours; the number is `prefill_use`."""
    ONGOING_REQUESTS = "ongoing_requests"
    """Serve's default; the number is `target_ongoing_requests`."""
    FIXED = "fixed"
    """A fixed number of replicas."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A rule and its number."""

    rule: Rule
    number: float
    downscaling_factor: float = 1.0
    """Serve's: at most such a share of the way down at a time."""

    def __str__(self) -> str:
        damped = "" if self.downscaling_factor == 1 else f"@{self.downscaling_factor:g}"
        return f"{self.rule}:{self.number:g}{damped}"

    def config(self, common: Mapping[str, Any], *, prefill_tokens_per_s: float) -> dict[str, Any] | None:
        """`autoscaling_config`, with what all have in common; None for a fixed number of replicas."""
        common = {**common, "downscaling_factor": self.downscaling_factor}
        match self.rule:
            case Rule.FIXED:
                return None
            case Rule.ONGOING_REQUESTS:
                return {**common, "target_ongoing_requests": self.number}
            case Rule.UNCACHED_WORK:
                kwargs = {"prefill_tokens_per_s": prefill_tokens_per_s, "prefill_use": self.number}
                return {**common, "policy": {"policy_function": AUTOSCALING_POLICY, "policy_kwargs": kwargs}}


def read_contenders(text: str) -> tuple[Contender, ...]:
    """`uncached_work:0.7,ongoing_requests:8@0.2`: rules and numbers, and downscaling factors other than 1.

    Raises:
        OptionError: there is no such rule, or its number cannot be used.

    """
    return tuple(map(_read, text.split(",")))


def _read(text: str) -> Contender:
    name, _, numbers = text.strip().partition(":")
    number, _, factor = numbers.partition("@")
    try:
        contender = Contender(Rule(name), float(number), float(factor or 1))
    except ValueError as error:
        raise OptionError(
            f"--policy {text} is not RULE:NUMBER or RULE:NUMBER@FACTOR, as in uncached_work:0.7, with one of "
            f"{', '.join(Rule)}"
        ) from error
    if not (0 < contender.number < float("inf") and 0 < contender.downscaling_factor < float("inf")):
        raise OptionError(f"--policy {text}: use a number above 0")
    if contender.rule is Rule.FIXED and contender.number % 1:
        raise OptionError(f"--policy {text}: replicas are whole, use {contender.number:.0f}")
    return contender
