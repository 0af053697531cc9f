"""What a second tier in the host's memory is worth to one engine: how fast it gives back, and what traffic gains.

vLLM resets its GPU's cache without the tier, so a prompt sent cold, after a reset, and once more is computed, reloaded
and reused, in this order.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import fmean
from typing import Any

from rich.table import Table

from benchmarks.gpu.comparison import PolicyPlan, PolicyRun, Resettable, compare
from benchmarks.gpu.engine import EngineAnswer, KvCache
from benchmarks.gpu.ttft import milliseconds
from loadtests.report import intervals
from loadtests.report.intervals import estimate_text
from loadtests.report.tables import make_table
from serve_app.calibration.probe import TOKEN_IDS

POLICY = "round_robin"
"""There is one engine; nothing is chosen."""
WITHOUT = "no tier"


@dataclass(frozen=True, slots=True)
class Reload:
    """One prompt, sent three times."""

    num_tokens: int
    cold: EngineAnswer
    reloaded: EngineAnswer
    warm: EngineAnswer


async def measure_reloads(
    engine: Resettable, lengths: Sequence[int], *, repetitions: int, rng: Random
) -> AsyncIterator[Reload]:
    """Measure each length once a repetition; a first round does not count.

    Raises:
        MeasurementError: the engine did not answer, or does not reset its cache.

    """
    for repetition in range(1 + repetitions):
        for length in rng.sample(lengths, k=len(lengths)):
            reload = await _sample(engine, length, rng)
            if repetition:
                yield reload


async def _sample(engine: Resettable, length: int, rng: Random) -> Reload:
    token_ids = rng.choices(TOKEN_IDS, k=length)
    cold = await engine.ask(token_ids, answer_tokens=1, on_first_token=_ignore)
    await engine.reset_cache()
    reloaded = await engine.ask(token_ids, answer_tokens=1, on_first_token=_ignore)
    warm = await engine.ask(token_ids, answer_tokens=1, on_first_token=_ignore)
    return Reload(length, cold, reloaded, warm)


def _ignore() -> None:
    """No one listens."""


async def run_arm(
    name: str, plan: PolicyPlan, engine: Resettable, cache: KvCache, *, clock: Callable[[], float]
) -> AsyncIterator[PolicyRun]:
    """The plan's sessions, repetition after repetition, under the arm's name. Every one begins with an empty GPU cache;
    what the tier keeps of the ones before are other prompts.
    """
    alone = replace(plan, policies=(POLICY,))
    async for run in compare(alone, [engine], [cache], clock=clock):
        yield replace(run, policy=name)


def host_name(host_gib: float) -> str:
    """The name of the arm with a tier."""
    return f"{host_gib:g} GiB"


def reload_faults(reloads: Sequence[Reload]) -> list[str]:
    """What makes the times worthless."""
    return [
        f"a prompt of {each.num_tokens:,} tokens had {answer.cached_tokens:,} cached when {when}"
        for each in reloads
        for when, answer, is_wrong in (
            ("cold", each.cold, each.cold.cached_tokens > 0),
            ("reloaded", each.reloaded, each.reloaded.cached_tokens == 0),
            ("warm", each.warm, each.warm.cached_tokens == 0),
        )
        if is_wrong
    ]


def host_tokens_per_s(reloads: Sequence[Reload]) -> float | None:
    """How fast tokens come back: what reloading took beyond reuse, over all prompts; None if it took nothing more."""
    further_s = sum(each.reloaded.first_token_s - each.warm.first_token_s for each in reloads)
    return sum(each.reloaded.cached_tokens for each in reloads) / further_s if further_s > 0 else None


def reload_table(reloads: Sequence[Reload]) -> Table:
    """A line for each length."""
    table = make_table(
        "Time to the first token: computed, from the host, from the GPU",
        left=(),
        right=("tokens", "cold ms", "reloaded ms", "warm ms", "reloaded tokens", "reloaded / cold"),
    )
    for num_tokens in sorted({each.num_tokens for each in reloads}):
        samples = [each for each in reloads if each.num_tokens == num_tokens]
        cold_s, reloaded_s, warm_s = (
            [answer.first_token_s for answer in answers]
            for answers in zip(*((each.cold, each.reloaded, each.warm) for each in samples), strict=True)
        )
        table.add_row(
            f"{num_tokens:,}",
            *map(milliseconds, (cold_s, reloaded_s, warm_s)),
            f"{fmean(each.reloaded.cached_tokens for each in samples):,.0f}",
            estimate_text(intervals.ratio(reloaded_s, cold_s), ".3f"),
        )
    return table


def reloads_as_json(reloads: Sequence[Reload]) -> dict[str, Any]:
    """Every sample; times in seconds."""
    return {"reloads": [asdict(each) for each in reloads], "host_tokens_per_s": host_tokens_per_s(reloads)}
