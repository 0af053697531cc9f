"""What a policy is put into, and one run of it there."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from serve_app.settings.schema import WaitingOrderName

Changes = tuple[tuple[str, float], ...]
"""Options of an engine that are not the defaults: names and values."""
ROUTER_DELAY_S = 0.005
SHIPPED_ORDER: WaitingOrderName = "arrival"
"""The order in which prompts wait behind every rival as it is shipped: vLLM's own."""


class Table(StrEnum):
    """What is shown together."""

    WORKLOADS = "workloads"
    """Answers of thousands of tokens, made by generators."""
    TRACES = "traces"
    """Recorded conversations and agents' sessions, over sizes and loads."""
    ROBUSTNESS = "robustness"
    """Engines that are unlike, unlike what routers are told, or unlike those that we tuned on."""
    ROUTERS = "routers"
    """Several routers, and late messages."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Who asks, and who answers."""

    table: Table
    name: str
    """A short name, unique within its table."""
    workload: str
    """The name of a generator, or of a trace."""
    load: float
    """For a trace, prompt tokens a second over what all replicas could prefill if they were alike. For a generator, the
    factor on its own rate."""
    num_replicas: int = 8
    kv_tokens: int = 500_000
    num_copies: int = 1
    """Copies of each session, in a trace of sessions."""
    num_routers: int = 1
    delay_s: float = ROUTER_DELAY_S
    """Delay of messages, in seconds."""
    engine: Changes = ()
    """Changed options of all engines."""
    rank_to_engine: tuple[tuple[int, Changes], ...] = ()
    """Changed options of single engines, besides those."""
    told_factor: float = 1.0
    """The factor on the true KV capacity in what routers are told."""
    is_told_usual_speed: bool = False
    """Whether routers are told the default speed instead of the engines' own."""
    answer_factor: float = 1.0
    """The factor on the recorded answers' lengths."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a policy in a situation."""

    situation: Situation
    policy: str
    seed: int
    duration_s: float
    """Seconds of arrivals, where a generator makes them."""
    waiting_order: WaitingOrderName = SHIPPED_ORDER
    """The order of waiting in all engines."""

    def parameters(self) -> dict[str, Any]:
        """Everything that its result depends on, besides the code, as JSON has it."""
        situation = asdict(self.situation)
        del situation["table"], situation["name"]
        parameters = {**situation, "policy": self.policy, "seed": self.seed, "duration_s": self.duration_s}
        if (
            self.waiting_order != SHIPPED_ORDER
        ):  # left out otherwise, so that results kept before there was it are found
            parameters["waiting_order"] = self.waiting_order
        return parameters


@dataclass(frozen=True, slots=True)
class CellFigures:
    """What one run gave."""

    mean_ttft_s: float
    p99_ttft_s: float
    mean_answer_s: float
    """Seconds from the arrival to the last token."""
    p99_answer_s: float
    hit_rate: float
    num_requests: int
    real_s: float
    """How long the run took."""
