"""Puts the calibration together: find the replica, measure with a progress bar, fit, print."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from statistics import median

import httpx
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from serve_app.calibration.errors import CalibrationError
from serve_app.calibration.fit import Contexts, DecodeContexts, Fit, FittedLine, MeasuredPoint, fit_constants
from serve_app.calibration.measured_replica import MeasuredReplica, find_replica
from serve_app.calibration.probe import ANSWER_TOKENS, SHORT_CONTEXT_TOKENS, ReplicaProbe
from serve_app.control.running_application import ApplicationError
from serve_app.control.serve_api import ServeApiError
from serve_app.local.cluster import LocalRun

FAILURES = (CalibrationError, ApplicationError, ServeApiError)
LENGTHS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)
"""Of the longest prompt."""
CONTEXT = 4
"""The longest cached context is so many times the longest prompt, where the model takes as much."""
DECODE_CONTEXT = 16
"""The longest context of a sequence that is decoded, likewise: a token of it costs little beside a step. An engine has
room for as much as its model takes, but perhaps not for two of them, so that a sequence is alone then."""
CONTEXTS = (1 / 4, 1 / 2, 3 / 4, 1)
"""Of the longest one."""
NEW_TOKENS = 1 / 8
"""After a context, of the longest prompt: few enough for attention to show."""
BLOCK_TOKENS = 128
"""Contexts are whole blocks of any usual size, so that all of them can be cached."""
NUM_DIGITS = 3


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """What the command line asks for."""

    longest: int
    """Tokens of the longest prompt."""
    streams: int
    """Largest number of concurrent answers."""
    repetitions: int


@dataclass(frozen=True, slots=True)
class _Measured:
    prefill: list[MeasuredPoint]
    decode: list[MeasuredPoint]
    contexts: Contexts | None
    decode_contexts: DecodeContexts | None
    prompt_tokens: int
    """Number of tokens of all prompts that were sent."""


def calibrate(
    plan: CalibrationPlan, run: LocalRun | None, console: Console, *, url: str | None, replica: str | None
) -> None:
    """Measure a replica, and print the constants.

    Raises:
        FAILURES: with a message for the user.

    """
    if run is not None and run.note:
        console.print(f"The replica is not a real one{run.note}.")
    with find_replica(run, url=url, replica=replica) as place:
        fit = measure(plan, place, console)
    print_fit(fit, console)


def print_fit(fit: Fit, console: Console) -> None:
    """What was measured, and the settings to paste."""
    console.print(line_table("Time to the first token of a cold prompt, without attention", "tokens", fit.prefill))
    if fit.context is not None:
        console.print(line_table("Time to the first token after a cached context", "cached tokens", fit.context))
    if fit.decode_context is not None:
        console.print(line_table("Time from token to token of one stream", "context tokens", fit.decode_context))
    console.print(line_table("Time from token to token, without contexts", "streams", fit.decode))
    console.print(
        f"Of the time to a first token, {fit.outside_s * 1000:.1f} ms are spent outside the engine's steps. "
        "max_step_tokens and max_sequences are vLLM's max_num_batched_tokens and max_num_seqs."
    )
    console.print(constants_yaml(fit), end="", markup=False)


def measure(plan: CalibrationPlan, place: MeasuredReplica, console: Console) -> Fit:
    """The constants of an idle replica, with a progress bar.

    Raises:
        CalibrationError: it cannot be measured, others used it, or its times are no line.

    """
    measured = asyncio.run(_measure(plan, place.url, console))
    if place.bystanders is None:
        console.print("Whether others used the replica at the same time is not known.")
    else:
        place.bystanders.check(measured.prompt_tokens)
    return fit_constants(measured.prefill, measured.decode, measured.contexts, measured.decode_contexts)


def constants(fit: Fit) -> dict[str, float]:
    """The constants as settings, with as many digits as a measurement is good for."""
    values = {
        "step_s": fit.step_s,
        "prefill_tokens_per_s": fit.prefill_tokens_per_s,
        "attention_s": fit.attention_s,
        "decode_s": fit.decode_s,
        "decode_context_s": fit.decode_context_s,
    }
    return {name: float(f"{value:.{NUM_DIGITS}g}") for name, value in values.items()}


def constants_yaml(fit: Fit) -> str:
    """The settings to paste."""
    return yaml.safe_dump({"engine_model": constants(fit)}, sort_keys=False)


def line_table(title: str, x: str, line: FittedLine) -> Table:
    """What was measured, and how far from it the line is."""
    table = Table(title=f"{title}: a line, {line.error:.1%} off", title_justify="left")
    for column in (x, "measured ms", "fitted ms", "residual ms"):
        table.add_column(column, justify="right")
    for point in line.points:
        fitted_s = line.at(point.x)
        times_ms = [1000 * seconds for seconds in (point.seconds, fitted_s, point.seconds - fitted_s)]
        table.add_row(f"{point.x:,g}", *(f"{milliseconds:,.2f}" for milliseconds in times_ms))
    return table


async def _measure(plan: CalibrationPlan, url: str, console: Console) -> _Measured:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, trust_env=False, limits=limits) as client:
        probe = ReplicaProbe(client, rng=SystemRandom(), clock=time.perf_counter)
        model = await probe.find_model()
        console.print(f"Measuring {model.name} at {url}")
        lengths = [round(min(plan.longest, model.max_prompt_tokens) * share) for share in LENGTHS]
        streams = [2**power for power in range(plan.streams.bit_length())]
        new_tokens = round(lengths[-1] * NEW_TOKENS)
        context_tokens = context_lengths(min(CONTEXT * plan.longest, model.max_prompt_tokens - new_tokens))
        long_tokens = context_lengths(
            min(DECODE_CONTEXT * plan.longest, model.max_prompt_tokens - ANSWER_TOKENS), shortest=ANSWER_TOKENS
        )
        with Progress(console=console) as progress:
            await _medians(probe.first_token_s, lengths[:1], 1, progress, "warming up")
            prefill = await _medians(probe.first_token_s, lengths, plan.repetitions, progress, "prompts")
            after = partial(probe.first_token_after_s, new_tokens=new_tokens)
            contexts = await _medians(after, context_tokens, plan.repetitions, progress, "contexts")
            decode = await _medians(probe.between_tokens_s, streams, plan.repetitions, progress, "streams")
            long = await _medians(probe.between_tokens_after_s, long_tokens, plan.repetitions, progress, "long streams")
    return _Measured(
        prefill,
        decode,
        Contexts(new_tokens, contexts) if contexts else None,
        DecodeContexts(SHORT_CONTEXT_TOKENS, long) if long else None,
        probe.prompt_tokens,
    )


def context_lengths(longest: int, *, shortest: int = BLOCK_TOKENS) -> list[int]:
    """Lengths of contexts, the longest with at most `longest` tokens; none where attention would not show."""
    lengths = [int(longest * share) // BLOCK_TOKENS * BLOCK_TOKENS for share in CONTEXTS]
    return lengths if lengths[0] >= shortest else []


async def _medians(
    take: Callable[[int], Awaitable[float]], xs: Sequence[int], repetitions: int, progress: Progress, title: str
) -> list[MeasuredPoint]:
    """Measure each in turn, so that what changes with time changes all."""
    x_to_times: dict[int, list[float]] = {x: [] for x in xs}
    for x in progress.track(list(xs) * repetitions, description=title):
        x_to_times[x].append(await take(x))
    return [MeasuredPoint(x, median(times_s)) for x, times_s in x_to_times.items()]
