"""A step in hit rate, and none in the rate of requests: for a while, prompts of some sessions begin like no other.

So it goes when the time of day gets into the first line of a system prompt, and is taken out again. Arrivals and
lengths are the same as without.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, TrafficPhase, read_sessions, salted, start_sessions
from loadtests.replay.trace import TraceRequest

SETTLING_S = 900.0
"""Seconds until a fleet has the size that suits the traffic; they do not count."""
PHASE_S = 2400.0


def make_step(trace: Path, *, rps: float, new_share: float, seed: int) -> ScalingTraffic:
    """Prompts as recorded, then those of such a share of sessions new, then as recorded again, equally long.

    Raises:
        TraceError: the trace cannot be used.

    """
    names = ("as recorded", f"{new_share:.0%} new", "as recorded again")
    starts_s = [SETTLING_S + number * PHASE_S for number in range(len(names))]
    phases = tuple(
        TrafficPhase(name, start_s, start_s + PHASE_S) for name, start_s in zip(names, starts_s, strict=True)
    )
    rng = Random(f"step {seed}")
    sessions = read_sessions(trace, rng=rng)
    requests = start_sessions(sessions, rates_rps=[rps], window_s=phases[-1].end_s, rng=rng)
    return ScalingTraffic(unshare(requests, phases[1], share=new_share, rng=rng), sessions.block_size, phases)


def unshare(
    requests: Sequence[TraceRequest], phase: TrafficPhase, *, share: float, rng: Random
) -> tuple[TraceRequest, ...]:
    """Make the blocks new of each request that comes in the phase, for a share of sessions."""
    session_to_is_new = {each: rng.random() < share for each in dict.fromkeys(each.session_id for each in requests)}
    return tuple(
        replace(request, block_hashes=tuple(salted(each, -1 - number) for each in request.block_hashes))
        if session_to_is_new[request.session_id] and phase.start_s <= request.arrival_s < phase.end_s
        else request
        for number, request in enumerate(requests)
    )
