"""What every experiment here has in common: trace, load, replicas, seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from loadtests.replay.arrivals import load_trace, scale_to_pace
from loadtests.replay.engine import EngineOptions
from loadtests.replay.results import Replay
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.trace import TraceRequest

NUM_ROUTERS = 2
CAVEATS = ("Time and engines are simulated: the figures compare routing decisions and are no measurement of a model.",)
MID_TRACE = (0.25, 0.35, 0.45, 0.55, 0.65)
"""The times at which something happens, as shares of the trace's duration."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The constants of one table."""

    trace: Path
    load: float
    """Prompt tokens a second over what all replicas can prefill."""
    num_replicas: int
    seeds: Sequence[int]
    is_spread_evenly: bool
    """Whether requests of one stamp of the trace are spread evenly; otherwise at random, by the seed."""

    def scenarios(self) -> Iterator[Scenario]:
        """Two routers and no fault, for each seed."""
        for seed in self.seeds:
            yield Scenario(self._requests(seed), num_replicas=self.num_replicas, num_routers=NUM_ROUTERS, seed=seed)

    def __str__(self) -> str:
        spread = "evenly" if self.is_spread_evenly else "at random"
        seeds = ", ".join(map(str, self.seeds))
        return (
            f"{self.trace.name} with stamps spread {spread}, load {self.load:g}, {self.num_replicas} replicas, "
            f"seeds {seeds}, waiting order {EngineOptions().waiting_order}"
        )

    def _requests(self, seed: int) -> tuple[TraceRequest, ...]:
        return scale_to_pace(
            load_trace(self.trace, rng=None if self.is_spread_evenly else Random(f"trace {seed}")),
            prompt_tokens_per_s=self.load * self.num_replicas * EngineOptions().prefill_tokens_per_s,
        )


def simulate(scenario: Scenario, **changes: object) -> Replay:
    """Run the scenario with some things changed."""
    return Simulation(replace(scenario, **changes)).run()  # type: ignore[arg-type]  # names of fields


def times_in(scenario: Scenario) -> tuple[float, ...]:
    """When something happens, in seconds."""
    end_s = scenario.requests[-1].arrival_s
    return tuple(share * end_s for share in MID_TRACE)
