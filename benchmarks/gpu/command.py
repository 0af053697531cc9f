"""What routing, caching and a second tier are worth on one real GPU."""

import asyncio
import time
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.gpu import tiers, ttft
from benchmarks.gpu.comparison import PolicyOutcome, PolicyPlan, PolicyRun, compare, result_tables
from benchmarks.gpu.engine import KvCache
from benchmarks.gpu.engines import EngineOptions, connected, running_engines
from benchmarks.gpu.model import Shape
from benchmarks.gpu.sessions import TurnTraffic
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.machine import Machine, find_machine
from benchmarks.harness.report import Report
from loadtests.report.console import notes_console
from router import UnknownPolicyError
from router.policies import POLICY_NAMES
from serve_app.calibration import command as calibration
from serve_app.calibration.errors import CalibrationError
from serve_app.calibration.measured_replica import MeasuredReplica

DEFAULT_FOLDER = Path(".warmroute/gpu")
DEFAULT_LENGTHS = "1024,2048,4096,8192,16384,32768,65536"
DEFAULT_POLICIES = "round_robin,least_loaded,prefix_affinity"
MEMORY_SHARE = 0.9
"""Share of the GPU's memory, for all engines together."""

ShapeOption = Annotated[
    Shape | None, typer.Option(help="The model's sizes; by default llama-8b on a GPU, tiny on a CPU.")
]
StepOption = Annotated[int, typer.Option(min=1, help="Tokens of one step: vLLM's max_num_batched_tokens.")]
FolderOption = Annotated[Path, typer.Option(help="The folder of the model and the engines' logs.")]
RepetitionsOption = Annotated[
    int, typer.Option(min=1, help="Repetitions of everything, in turn; two or more give intervals.")
]
RateOption = Annotated[float, typer.Option(min=0.001, help="Requests a second, at the mean.")]
SessionsOption = Annotated[int, typer.Option(min=1, help="Conversations in each run.")]
TurnsOption = Annotated[int, typer.Option(min=1, help="Mean turns of a conversation.")]
MessageOption = Annotated[int, typer.Option(min=1, help="Mean tokens of a user's message.")]
AnswerOption = Annotated[int, typer.Option(min=1, help="Tokens of every answer.")]
ThinkOption = Annotated[float, typer.Option(min=0, help="Mean seconds from an answer to the next turn.")]
LimitOption = Annotated[float, typer.Option(min=0, help="A request is good with its first token within it.")]


class Arm(NamedTuple):
    """What one engine gave, with or without a tier."""

    runs: list[PolicyRun]
    reloads: list[tiers.Reload]
    """Reloads; none without a tier."""
    cache: KvCache


app = make_app()


@app.command("ttft")
@measurement
def ttft_command(
    lengths: Annotated[
        str, typer.Option(help="Lengths of the prompts in tokens, separated by commas.")
    ] = DEFAULT_LENGTHS,
    repetitions: RepetitionsOption = 5,
    streams: Annotated[int, typer.Option(min=4, help="Sequences decoded at a time, at most.")] = 32,
    step_tokens: StepOption = 8192,
    shape: ShapeOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    seed: SeedOption = 1,
) -> Report:
    """Time to the first token, cold and warm, against the prompt's length; and the simulator's constants."""
    console, machine = notes_console(), _machine()
    sizes = _read_lengths(lengths)
    options = EngineOptions(
        shape or _shape(machine), max_prompt_tokens=sizes[-1], max_step_tokens=step_tokens, memory_share=MEMORY_SHARE
    )
    with running_engines(1, options, machine, folder=folder) as [url]:
        result = asyncio.run(_measure_ttft(url, sizes, repetitions, seed, console))
        constants, line = _calibrate(calibration.CalibrationPlan(step_tokens, streams, repetitions), url, console)
    records = _records("ttft", options) | {"engine_model": constants} | result.as_json()
    return Report([ttft.ttft_table(result)], records, result.faults(), lines=[line])


@app.command("policies")
@measurement
def policies_command(  # noqa: PLR0913  one for each option
    *,
    policies: Annotated[str, typer.Option(help="Separated by commas; the others are compared with the first.")] = (
        DEFAULT_POLICIES
    ),
    engines: Annotated[int, typer.Option(min=2, help="How many, on one GPU.")] = 2,
    kv_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of each KV cache; by default as many as fit.")
    ] = None,
    rate: RateOption = 4.0,
    sessions: SessionsOption = 200,
    turns: TurnsOption = 4,
    prefixes: Annotated[int, typer.Option(min=1, help="System prompts that conversations share.")] = 40,
    prefix_tokens: Annotated[int, typer.Option(min=0, help="Tokens of each system prompt.")] = 4000,
    message_tokens: MessageOption = 500,
    answer_tokens: AnswerOption = 64,
    think_s: ThinkOption = 2.0,
    ttft_limit_s: LimitOption = 2.0,
    repetitions: RepetitionsOption = 3,
    step_tokens: StepOption = 8192,
    shape: ShapeOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    seed: SeedOption = 1,
) -> Report:
    """Hit rate and TTFT by policy: the production router in front of several engines that share one GPU."""
    machine = _machine()
    traffic = TurnTraffic(sessions, rate, turns, prefixes, prefix_tokens, message_tokens, answer_tokens, think_s)
    plan = PolicyPlan(_read_policies(policies), traffic, repetitions, seed, ttft_limit_s)
    options = EngineOptions(
        shape or _shape(machine), traffic.max_tokens, step_tokens, MEMORY_SHARE / engines, kv_tokens
    )
    with running_engines(engines, options, machine, folder=folder) as urls:
        result = asyncio.run(_compare(plan, urls, notes_console()))
    shared = (
        f"{engines} engines with {' and '.join(f'{cache.num_tokens:,}' for cache in result.caches)} tokens of KV cache "
        f"share {machine.shared_by}: one that computes slows the others down, as on GPUs of their own it would not."
    )
    late = f"Sessions began at most {1000 * max(run.max_late_s for run in result.runs):.0f} ms late."
    records = _records("policies", options) | result.as_json()
    return Report(result_tables(result), records, result.faults(), lines=[late], caveats=[shared])


@app.command("tiers")
@measurement
def tiers_command(  # noqa: PLR0913  one for each option
    *,
    host_gib: Annotated[float, typer.Option(min=0.001, help="GiB of the second tier, in the host's memory.")] = 100.0,
    kv_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the KV cache; by default as many as fit.")
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="Lengths of the prompts that are reloaded, in tokens.")
    ] = "2048,8192,32768",
    rate: RateOption = 2.0,
    sessions: SessionsOption = 100,
    turns: TurnsOption = 4,
    message_tokens: MessageOption = 3000,
    answer_tokens: AnswerOption = 64,
    think_s: ThinkOption = 20.0,
    ttft_limit_s: LimitOption = 2.0,
    repetitions: RepetitionsOption = 3,
    step_tokens: StepOption = 8192,
    shape: ShapeOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    seed: SeedOption = 1,
) -> Report:
    """Hit rate and TTFT of one engine without and with vLLM's KV offloading, and how fast KV comes back."""
    console, machine = notes_console(), _machine()
    if not machine.has_gpu:
        raise MeasurementError(f"vLLM offloads KV from GPUs only; this is {machine.name}: run it where a GPU is")
    traffic = TurnTraffic(sessions, rate, turns, 1, 0, message_tokens, answer_tokens, think_s)
    sizes = _read_lengths(lengths)
    plan = PolicyPlan((tiers.WITHOUT, tiers.host_name(host_gib)), traffic, repetitions, seed, ttft_limit_s)
    options = EngineOptions(
        shape or _shape(machine), max(traffic.max_tokens, sizes[-1]), step_tokens, MEMORY_SHARE, kv_tokens, host_gib
    )
    without = _run_arm(plan.policies[0], plan, replace(options, host_gib=None), [], machine, folder, console)
    having = _run_arm(plan.policies[1], plan, options, sizes, machine, folder, console)
    result = PolicyOutcome(plan, [without.cache], [*without.runs, *having.runs])
    speed = tiers.host_tokens_per_s(having.reloads)
    return Report(
        [*result_tables(result), tiers.reload_table(having.reloads)],
        _records("tiers", options) | result.as_json() | tiers.reloads_as_json(having.reloads),
        result.faults() + tiers.reload_faults(having.reloads),
        lines=[
            f"{without.cache.num_tokens:,} tokens of KV cache on the GPU, {host_gib:g} GiB in the host's memory.",
            "Reloading took no time." if speed is None else f"host_tokens_per_s: {speed:,.0f}",
        ],
    )


def _machine() -> Machine:
    """Where this runs; it is told before anything starts."""
    machine = find_machine()
    notes_console().print(str(machine), markup=False)
    return machine


async def _measure_ttft(
    url: str, lengths: list[int], repetitions: int, seed: int, console: Console
) -> ttft.TtftOutcome:
    rng = Random(f"ttft {seed}")
    samples = []
    with Progress(console=console, transient=True) as progress:
        async with connected([url]) as [engine]:
            bar = progress.add_task("prompts", total=repetitions * len(lengths))
            async for sample in ttft.measure_prompts(engine, lengths, repetitions=repetitions, rng=rng):
                samples.append(sample)
                progress.advance(bar)
    return ttft.TtftOutcome(samples)


async def _compare(plan: PolicyPlan, urls: list[str], console: Console) -> PolicyOutcome:
    runs = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("runs", total=plan.repetitions * len(plan.policies))
        async with connected(urls) as engines:
            caches = [await engine.kv_cache() for engine in engines]
            async for run in compare(plan, engines, caches, clock=time.perf_counter):
                runs.append(run)
                progress.advance(bar)
    return PolicyOutcome(plan, caches, runs)


def _run_arm(
    name: str,
    plan: PolicyPlan,
    options: EngineOptions,
    lengths: list[int],
    machine: Machine,
    folder: Path,
    console: Console,
) -> Arm:
    with running_engines(1, options, machine, folder=folder) as [url]:
        return asyncio.run(_measure_arm(name, plan, url, lengths, console))


async def _measure_arm(name: str, plan: PolicyPlan, url: str, lengths: list[int], console: Console) -> Arm:
    runs, reloads = [], []
    rng = Random(f"tiers {plan.seed}")
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(name, total=plan.repetitions * (1 + len(lengths)))
        async with connected([url]) as [engine]:
            cache = await engine.kv_cache()
            async for reload in tiers.measure_reloads(engine, lengths, repetitions=plan.repetitions, rng=rng):
                reloads.append(reload)
                progress.advance(bar)
            async for run in tiers.run_arm(name, plan, engine, cache, clock=time.perf_counter):
                runs.append(run)
                progress.advance(bar)
    return Arm(runs, reloads, cache)


def _calibrate(plan: calibration.CalibrationPlan, url: str, console: Console) -> tuple[dict[str, float] | None, str]:
    """The simulator's constants as a dictionary and as text; None and the reason where the times make no sense."""
    try:
        fit = calibration.measure(plan, MeasuredReplica(url, bystanders=None), console)
    except CalibrationError as error:
        return None, f"No engine_model: {error}"
    calibration.print_fit(fit, console)
    constants = calibration.constants(fit)
    return constants, "engine_model: " + ", ".join(f"{name}: {value}" for name, value in constants.items())


def _records(measurement: str, options: EngineOptions) -> dict[str, Any]:
    """What was measured, and with which engines."""
    return {"measurement": measurement, "engine": {**asdict(options), "shape": options.shape.value}}


def _shape(machine: Machine) -> Shape:
    return Shape.LLAMA_8B if machine.has_gpu else Shape.TINY


def _read_lengths(text: str) -> list[int]:
    try:
        lengths = sorted({int(length) for length in text.split(",")})
    except ValueError as error:
        raise MeasurementError(
            f"--lengths {text} is not a list of numbers: separate them by commas, as in 1024,4096"
        ) from error
    if lengths[0] < 1:
        raise MeasurementError(f"--lengths {text} has a prompt without tokens: leave it out")
    return lengths


def _read_policies(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in POLICY_NAMES:
            raise UnknownPolicyError(name, list(POLICY_NAMES))
    return names
