"""The outcome of a check, as one line for people and as data for scripts."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How a check ended. Only `failed` makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It needs something that an earlier check found missing."""


class Check(StrEnum):
    """The checks, in the order of their execution."""

    APPLICATION = "application"
    VERSIONS = "versions"
    ENVIRONMENT = "environment"
    HARD_STOP = "hard stop"
    PORTS = "ports"
    REPLICAS = "replicas"
    ROUTERS = "routers"
    REQUEST = "request"
    RECEIPTS = "receipts"
    EXCLUSIONS = "exclusions"
    PARITY = "parity"
    TOKENIZER = "tokenizer"
    TIERS = "tiers"


class Problem(NamedTuple):
    """Something wrong, and what to do about it."""

    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: Check
    status: Status
    text: str
    remedy: str = ""


def ok(check: Check, text: str) -> Finding:
    """As it should be; the text says what was seen."""
    return Finding(check, Status.OK, text)


def failed(check: Check, *problems: Problem) -> Finding:
    """It does not work, or not for everyone."""
    return _with_problems(check, Status.FAILED, problems)


def warning(check: Check, *problems: Problem) -> Finding:
    """It works, and will hurt some day."""
    return _with_problems(check, Status.WARNING, problems)


def skipped(check: Check, *, waits_for: Check) -> Finding:
    """It cannot be made before another check is ok."""
    return Finding(check, Status.SKIPPED, f"waits for: {waits_for}")


def counted(number: int, noun: str) -> str:
    """The number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _with_problems(check: Check, status: Status, problems: tuple[Problem, ...]) -> Finding:
    remedies = dict.fromkeys(problem.remedy for problem in problems)  # each once, in order
    return Finding(check, status, "; ".join(problem.text for problem in problems), " ".join(remedies))
