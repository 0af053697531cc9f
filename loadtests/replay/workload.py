"""The requests of a run, from a trace file, at a load and for a seed."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from loadtests.replay import generators
from loadtests.replay.arrivals import scale_to_pace, spread_stamps, start_sessions
from loadtests.replay.tenants import assign_tenants, copy_sessions
from loadtests.replay.trace import Trace, TraceError, TraceKind, TraceRequest, read_trace


@dataclass(frozen=True, slots=True)
class ReplayWorkload:
    """The requests, independent of the replicas and the policy."""

    trace: Path
    """A file, or just the name of one of `loadtests.replay.generators`."""
    is_closed_loop: bool
    """Turns of a session wait for the answer before. Where only sessions are known, they always do."""
    is_spread_evenly: bool
    """Requests of one stamp of a Mooncake trace; otherwise at random, by the seed."""
    think_s: float
    """Seconds between a session's turns, where the trace does not say."""
    num_copies: int
    """Copies of every session, in a trace of sessions."""
    tenants: tuple[tuple[str, float], ...]
    """Names and weights; none for one tenant."""
    rate: float = 1.0
    """A factor on a generator's own arrivals a second."""

    @property
    def generator(self) -> generators.Generator | None:
        """None if it is a trace from a file."""
        return generators.GENERATORS.get(str(self.trace))


@dataclass(frozen=True, slots=True)
class AskedRequests:
    """The requests of one run."""

    requests: tuple[TraceRequest, ...]
    block_size: int
    is_closed_loop: bool

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last, if every answer came at once."""
        return self.requests[-1].arrival_s - self.requests[0].arrival_s


def make_requests(workload: ReplayWorkload, *, prompt_tokens_per_s: float, seed: int) -> AskedRequests:
    """The workload's requests for a seed, at a pace; a generator has its own pace.

    Raises:
        TraceError: the trace cannot be used, or not so.

    """
    if workload.generator is not None:
        return _generated(workload, workload.generator, seed=seed)
    trace = read_trace(workload.trace)
    rng = Random(f"arrivals {seed}")
    if trace.kind is TraceKind.SESSIONS:
        copies = copy_sessions(trace, num_copies=workload.num_copies)
        requests = start_sessions(copies, prompt_tokens_per_s=prompt_tokens_per_s, think_s=workload.think_s, rng=rng)
    else:
        requests = _mooncake(trace, workload, prompt_tokens_per_s=prompt_tokens_per_s, rng=rng)
    if workload.tenants:
        requests = assign_tenants(requests, tenant_to_weight=dict(workload.tenants), rng=Random(f"tenants {seed}"))
    return AskedRequests(
        requests, trace.kind.block_size, is_closed_loop=workload.is_closed_loop or trace.kind is TraceKind.SESSIONS
    )


def own_pace(path: Path, *, scale: float, requests_per_s: float | None) -> float:
    """Prompt tokens a second: as in the trace times a factor, or from a number of requests a second.

    Raises:
        TraceError: the trace cannot be used, or does not say when requests came.

    """
    trace = read_trace(path)
    prompt_tokens = sum(request.num_prompt_tokens for request in trace.requests)
    if requests_per_s is not None:
        return scale * requests_per_s * prompt_tokens / len(trace.requests)
    span_s = trace.requests[-1].arrival_s - trace.requests[0].arrival_s
    if trace.kind is TraceKind.SESSIONS or not span_s:
        raise TraceError(f"{path} does not say when requests came: say how many come a second with --rps")
    return scale * prompt_tokens / span_s


def _generated(workload: ReplayWorkload, generator: generators.Generator, *, seed: int) -> AskedRequests:
    requests = generators.generate(str(workload.trace), seed=seed, rate=workload.rate)
    is_closed_loop = workload.is_closed_loop or generator.is_closed_loop
    return AskedRequests(requests, generator.block_size, is_closed_loop=is_closed_loop)


def _mooncake(
    trace: Trace, workload: ReplayWorkload, *, prompt_tokens_per_s: float, rng: Random
) -> tuple[TraceRequest, ...]:
    if workload.num_copies > 1:
        raise TraceError(f"--copies {workload.num_copies} is for traces of sessions, and {workload.trace} has arrivals")
    spread = spread_stamps(trace, rng=None if workload.is_spread_evenly else rng)
    return scale_to_pace(spread, prompt_tokens_per_s=prompt_tokens_per_s)
