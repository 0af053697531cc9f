"""The arguments that the locustfile adds to Locust's, and what they mean once read."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

from loadtests.locust_kit.slo import Slo
from loadtests.locust_kit.totals import COLD_TTFT, WARM_TTFT
from loadtests.workloads import Texts, Workload, default_texts, read_texts

OWN_TEXTS = "own"
FILES = ("texts", "report")
"""Options that name files of the machine: users of Locust's page must not choose them."""
_Choice = TypeVar("_Choice", bound=StrEnum)


class RateOf(StrEnum):
    """What `--rate` counts."""

    SESSIONS = "sessions"
    REQUESTS = "requests"


class OptionsError(ValueError):
    """Arguments that cannot be; the message names one and says what can."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of one run, the same for all its processes."""

    workload: Workload
    texts: str
    seed: int
    model: str
    """Empty: the first that the server names."""
    rate: float
    """Arrivals a second; 0 for a closed loop."""
    rate_of: RateOf
    think_scale: float
    num_sessions: int
    """Number of sessions after which the run ends; 0 for no end."""
    slos: tuple[Slo, ...]
    max_error_share: float

    @classmethod
    def read(cls, parsed: Any) -> Self:  # noqa: ANN401  argparse's namespace; what the web page wrote into it is text
        """Read Locust's parsed options.

        Raises:
            OptionsError: one of them cannot be.

        """
        percentile = int(_number(parsed, "slo_percentile", at_least=1, at_most=99))
        limits = {COLD_TTFT: "cold_ttft_slo_ms", WARM_TTFT: "warm_ttft_slo_ms"}
        row_to_limit = {row: _number(parsed, name) for row, name in limits.items()}
        return cls(
            workload=_choice(Workload, parsed, "workload"),
            texts=str(parsed.texts),
            seed=int(_number(parsed, "seed")),
            model=str(parsed.model),
            rate=_number(parsed, "rate"),
            rate_of=_choice(RateOf, parsed, "rate_of"),
            think_scale=_number(parsed, "think_scale"),
            num_sessions=int(_number(parsed, "sessions")),
            slos=tuple(Slo(row, percentile, limit_ms) for row, limit_ms in row_to_limit.items() if limit_ms),
            max_error_share=_number(parsed, "max_error_share", at_most=1),
        )

    def read_texts(self) -> Texts:
        """What sessions are made of.

        Raises:
            TextsError: they cannot be read.

        """
        return default_texts() if self.texts == OWN_TEXTS else read_texts(Path(self.texts))

    def as_json(self) -> dict[str, object]:
        """The options for the report."""
        return {
            "workload": self.workload.value,
            "texts": self.texts,
            "seed": self.seed,
            "rate_per_s": self.rate,
            "rate_of": self.rate_of.value,
            "think_scale": self.think_scale,
            "sessions_wanted": self.num_sessions,
            "max_error_share": self.max_error_share,
        }


def add_arguments(parser: Any) -> None:  # noqa: ANN401  Locust's, which this module does not import
    """Add options to Locust's own; its page shows them in the form that starts a run."""

    def add(name: str, default: object, text: str, **options: object) -> None:
        is_file = name.removeprefix("--") in FILES
        parser.add_argument(
            name, default=default, type=type(default), help=text, include_in_web_ui=not is_file, **options
        )

    add("--workload", Workload.MIX.value, "The kind of sessions.", choices=[each.value for each in Workload])
    add(
        "--texts",
        OWN_TEXTS,
        "A JSON Lines file (.zst too) of conversations in OpenAI's message format; or tau_airline, oasst, rag of the "
        "folder of recorded texts; or the project's own set.",
    )
    add("--seed", 1, "The same seed gives the same sessions.")
    add("--model", "", "The model's name for clients. By default the first that the server names.")
    add("--rate", 0.0, "Sessions (or requests) that begin each second, whatever the server does, at random moments. "
        "0: each user begins a session when its last one has ended.")  # fmt: skip
    add(
        "--rate-of",
        RateOf.SESSIONS.value,
        "What --rate counts; requests are counted on average.",
        choices=[e.value for e in RateOf],
    )
    add("--think-scale", 1.0, "A factor on users' pauses. Recorded ones last two minutes.")
    add("--sessions", 0, "End the run when this number of sessions has ended; 0 for no end.")
    add("--cold-ttft-slo-ms", 0.0, "Limit for the time to the first token of prompts that were not cached; 0: none.")
    add("--warm-ttft-slo-ms", 0.0, "The same for prompts of which at least half was cached.")
    add("--slo-percentile", 95, "The percentile that must keep the limits.")
    add("--max-error-share", 0.0, "More failed requests than this share make the run fail.")
    add("--report", "", "Write what was measured to this JSON file.")


def _choice(values: type[_Choice], parsed: Any, name: str) -> _Choice:  # noqa: ANN401
    try:
        return values(getattr(parsed, name))
    except ValueError as error:
        raise OptionsError(f"{_flag(name)} {getattr(parsed, name)}: choose one of {', '.join(values)}") from error


def _number(parsed: Any, name: str, *, at_least: float = 0, at_most: float = float("inf")) -> float:  # noqa: ANN401
    value = getattr(parsed, name)
    try:
        number = float(value)
    except ValueError as error:
        raise OptionsError(f"{_flag(name)} {value}: give a number") from error
    if not at_least <= number <= at_most:
        limits = f"{at_least:g} or more" if at_most == float("inf") else f"{at_least:g} to {at_most:g}"
        raise OptionsError(f"{_flag(name)} {value}: give {limits}")
    return number


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
