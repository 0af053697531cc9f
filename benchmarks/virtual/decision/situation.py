"""What a policy is put into, and what one run there gives."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Changes = tuple[tuple[str, float], ...]
"""Options of an engine that are not the defaults: names and values."""
ROUTER_DELAY_S = 0.005


class Table(StrEnum):
    """The situations that are shown together."""

    WORKLOADS = "workloads"
    """Answers of thousands of tokens, made by generators."""
    TRACES = "traces"
    """Recorded conversations and agents' sessions, over sizes and loads."""
    ROBUSTNESS = "robustness"
    """Engines and prompts that are unlike those that we tuned on, and replicas that come and go."""
    ROUTERS = "routers"
    """Several routers, messages that are late or lost, and routers that start again."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The requests, and who answers them."""

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
    mix: str = ""
    """The name of one of the `mixes` that change a trace's prompts; empty for none."""
    disturbance: str = ""
    """The name of one of the `disturbances`; only requests that come soon after an event then count. Empty for none."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a policy in a situation."""

    situation: Situation
    policy: str
    seed: int
    duration_s: float
    """Seconds of arrivals, where a generator makes them."""

    def parameters(self) -> dict[str, Any]:
        """Everything that its result depends on, besides the code, as JSON has it."""
        situation = asdict(self.situation)
        del situation["table"], situation["name"]
        return {**situation, "policy": self.policy, "seed": self.seed, "duration_s": self.duration_s}


@dataclass(frozen=True, slots=True)
class Figures:
    """What a policy reached in a run, or the means over several seeds."""

    mean_ttft_s: float
    p99_ttft_s: float
    mean_answer_s: float
    """Seconds from the arrival to the last token."""
    hit_rate: float
