"""The command line.

python -m benchmarks gpu ttft --json ttft.json
python -m benchmarks gpu policies --engines 3 --rate 6 --json policies.json
python -m benchmarks gpu tiers --host-gib 100 --kv-tokens 60000 --json tiers.json
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.gpu import tiers, ttft
from benchmarks.gpu.comparison import Plan, Result, Run, compare, result_tables
from benchmarks.gpu.engine import KvCache
from benchmarks.gpu.engines import EngineOptions, connected, running_engines
from benchmarks.gpu.machine import Machine, command_line, find_machine, versions
from benchmarks.gpu.model import Shape
from benchmarks.gpu.sessions import Traffic
from benchmarks.harness.running_server import JsonOption, LiveError, SeedOption, fail, make_console, verdict, write_json
from router import UnknownPolicyError
from router.policies import POLICY_NAMES
from serve_app.calibration import main as calibration
from serve_app.calibration.errors import CalibrationError
from serve_app.calibration.place import Place

DEFAULT_FOLDER = Path(".warmroute/gpu")
DEFAULT_LENGTHS = "1024,2048,4096,8192,16384,32768,65536"
DEFAULT_POLICIES = "round_robin,least_loaded,prefix_affinity"
MEMORY_SHARE = 0.9
"""Of the GPU's memory, for all engines together."""

ShapeOption = Annotated[
    Shape | None, typer.Option(help="The model's sizes; by default llama-8b on a GPU, tiny on a CPU.")
]
StepOption = Annotated[int, typer.Option(min=1, help="Tokens of one step: vLLM's max_num_batched_tokens.")]
FolderOption = Annotated[Path, typer.Option(help="For the model and the engines' logs.")]
RepetitionsOption = Annotated[int, typer.Option(min=1, help="Of everything, in turn; two or more give intervals.")]
RateOption = Annotated[float, typer.Option(min=0.001, help="Requests a second, at the mean.")]
SessionsOption = Annotated[int, typer.Option(min=1, help="Conversations in each run.")]
TurnsOption = Annotated[int, typer.Option(min=1, help="Of a conversation, at the mean.")]
MessageOption = Annotated[int, typer.Option(min=1, help="Of a user's message, at the mean.")]
AnswerOption = Annotated[int, typer.Option(min=1, help="Of every answer.")]
ThinkOption = Annotated[float, typer.Option(min=0, help="From an answer to the next turn, at the mean.")]
LimitOption = Annotated[float, typer.Option(min=0, help="A request is good with its first token within it.")]


class Arm(NamedTuple):
    """What one engine gave, with or without a tier."""

    runs: list[Run]
    reloads: list[tiers.Reload]
    """None without a tier."""
    cache: KvCache


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("ttft")
def ttft_command(
    lengths: Annotated[str, typer.Option(help="Of the prompts, in tokens, separated by commas.")] = DEFAULT_LENGTHS,
    repetitions: RepetitionsOption = 5,
    streams: Annotated[int, typer.Option(min=4, help="At most so many sequences are decoded at a time.")] = 32,
    step_tokens: StepOption = 8192,
    shape: ShapeOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Time to the first token, cold and warm, against the prompt's length; and the simulator's constants."""
    console = make_console()
    with _measuring(console, json_file) as machine:
        sizes = _read_lengths(lengths)
        options = EngineOptions(
            shape or _shape(machine),
            max_prompt_tokens=sizes[-1],
            max_step_tokens=step_tokens,
            memory_share=MEMORY_SHARE,
        )
        with running_engines(1, options, machine, folder=folder) as [url]:
            result = asyncio.run(_measure_ttft(url, sizes, repetitions, seed, console))
            console.print(ttft.ttft_table(result))
            constants = _calibrate(calibration.Plan(step_tokens, streams, repetitions), url, console)
    write_json(json_file, _document("ttft", machine, options) | {"engine_model": constants} | result.as_json())
    verdict(console, result.faults())


@app.command("policies")
def policies_command(  # noqa: PLR0913  one for each option
    *,
    policies: Annotated[str, typer.Option(help="Separated by commas; the others are compared with the first.")] = (
        DEFAULT_POLICIES
    ),
    engines: Annotated[int, typer.Option(min=2, help="How many, on one GPU.")] = 2,
    kv_tokens: Annotated[int | None, typer.Option(min=1, help="Of each KV cache; all that fit by default.")] = None,
    rate: RateOption = 4.0,
    sessions: SessionsOption = 200,
    turns: TurnsOption = 4,
    prefixes: Annotated[int, typer.Option(min=1, help="System prompts that conversations share.")] = 40,
    prefix_tokens: Annotated[int, typer.Option(min=0, help="Of each.")] = 4000,
    message_tokens: MessageOption = 500,
    answer_tokens: AnswerOption = 64,
    think_s: ThinkOption = 2.0,
    ttft_limit_s: LimitOption = 2.0,
    repetitions: RepetitionsOption = 3,
    step_tokens: StepOption = 8192,
    shape: ShapeOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Hit rate and TTFT by policy: the production router in front of several engines that share one GPU."""
    console = make_console()
    traffic = Traffic(sessions, rate, turns, prefixes, prefix_tokens, message_tokens, answer_tokens, think_s)
    with _measuring(console, json_file) as machine:
        plan = Plan(_read_policies(policies), traffic, repetitions, seed, ttft_limit_s)
        options = EngineOptions(
            shape or _shape(machine), traffic.max_tokens, step_tokens, MEMORY_SHARE / engines, kv_tokens
        )
        with running_engines(engines, options, machine, folder=folder) as urls:
            result = asyncio.run(_compare(plan, urls, console))
    console.print(
        f"{engines} engines with {' and '.join(f'{cache.num_tokens:,}' for cache in result.caches)} tokens of KV cache "
        f"share {machine.shared_by}: one that computes slows the others down, as on GPUs of their own it would not."
    )
    console.print(*result_tables(result), sep="\n")
    console.print(f"Sessions began at most {1000 * max(run.max_late_s for run in result.runs):.0f} ms late.")
    write_json(json_file, _document("policies", machine, options) | result.as_json())
    verdict(console, result.faults())


@app.command("tiers")
def tiers_command(  # noqa: PLR0913  one for each option
    *,
    host_gib: Annotated[float, typer.Option(min=0.001, help="Of the second tier, in the host's memory.")] = 100.0,
    kv_tokens: Annotated[int | None, typer.Option(min=1, help="Of the KV cache; all that fit by default.")] = None,
    lengths: Annotated[str, typer.Option(help="Of the prompts that are reloaded, in tokens.")] = "2048,8192,32768",
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
    json_file: JsonOption = None,
) -> None:
    """Hit rate and TTFT of one engine without and with vLLM's KV offloading, and how fast KV comes back."""
    console = make_console()
    traffic = Traffic(sessions, rate, turns, 1, 0, message_tokens, answer_tokens, think_s)
    with _measuring(console, json_file) as machine:
        if not machine.has_gpu:
            raise LiveError(f"vLLM offloads KV from GPUs only, and this is {machine.name}: run it where a GPU is")
        sizes = _read_lengths(lengths)
        plan = Plan((tiers.WITHOUT, tiers.host_name(host_gib)), traffic, repetitions, seed, ttft_limit_s)
        options = EngineOptions(
            shape or _shape(machine), max(traffic.max_tokens, sizes[-1]), step_tokens, MEMORY_SHARE, kv_tokens, host_gib
        )
        without = _run_arm(plan.policies[0], plan, replace(options, host_gib=None), [], machine, folder, console)
        having = _run_arm(plan.policies[1], plan, options, sizes, machine, folder, console)
    result = Result(plan, [without.cache], [*without.runs, *having.runs])
    console.print(f"{without.cache.num_tokens:,} tokens of KV cache on the GPU, {host_gib:g} GiB in the host's memory.")
    console.print(*result_tables(result), tiers.reload_table(having.reloads), sep="\n")
    speed = tiers.host_tokens_per_s(having.reloads)
    console.print("Reloading took no time." if speed is None else f"host_tokens_per_s: {speed:,.0f}")
    document = _document("tiers", machine, options) | result.as_json() | tiers.reloads_as_json(having.reloads)
    write_json(json_file, document)
    verdict(console, result.faults() + tiers.reload_faults(having.reloads))


@contextmanager
def _measuring(console: Console, json_file: Path | None) -> Iterator[Machine]:
    """Every failure becomes one message and exit code 1; of what can be wrong, as much as possible before the start."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        fail(f"--json {json_file} cannot be written: name a file in a folder that exists")
    try:
        machine = find_machine()
        console.print(machine.name if machine.driver is None else f"{machine.name}, driver {machine.driver}")
        console.print(", ".join(f"{package} {version}" for package, version in versions().items()))
        console.print(command_line(), markup=False)
        yield machine
    except (LiveError, CalibrationError, UnknownPolicyError) as error:
        fail(str(error))


async def _measure_ttft(url: str, lengths: list[int], repetitions: int, seed: int, console: Console) -> ttft.Result:
    rng = Random(f"ttft {seed}")
    samples = []
    with Progress(console=console, transient=True) as progress:
        async with connected([url]) as [engine]:
            bar = progress.add_task("prompts", total=repetitions * len(lengths))
            async for sample in ttft.measure_prompts(engine, lengths, repetitions=repetitions, rng=rng):
                samples.append(sample)
                progress.advance(bar)
    return ttft.Result(samples)


async def _compare(plan: Plan, urls: list[str], console: Console) -> Result:
    runs = []
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("runs", total=plan.repetitions * len(plan.policies))
        async with connected(urls) as engines:
            caches = [await engine.kv_cache() for engine in engines]
            async for run in compare(plan, engines, caches, clock=time.perf_counter):
                runs.append(run)
                progress.advance(bar)
    return Result(plan, caches, runs)


def _run_arm(
    name: str,
    plan: Plan,
    options: EngineOptions,
    lengths: list[int],
    machine: Machine,
    folder: Path,
    console: Console,
) -> Arm:
    with running_engines(1, options, machine, folder=folder) as [url]:
        return asyncio.run(_measure_arm(name, plan, url, lengths, console))


async def _measure_arm(name: str, plan: Plan, url: str, lengths: list[int], console: Console) -> Arm:
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


def _calibrate(plan: calibration.Plan, url: str, console: Console) -> dict[str, float] | None:
    """The simulator's constants; None where the times make no sense, and why is said."""
    try:
        fit = calibration.measure(plan, Place(url, bystanders=None), console)
    except CalibrationError as error:
        console.print(f"No engine_model: {error}", markup=False)
        return None
    calibration.print_fit(fit, console)
    return calibration.constants(fit)


def _document(measurement: str, machine: Machine, options: EngineOptions) -> dict[str, Any]:
    """How it came about."""
    return {
        "measurement": measurement,
        "machine": machine.name,
        "driver": machine.driver,
        "versions": versions(),
        "command": command_line(),
        "engine": {**asdict(options), "shape": options.shape.value},
    }


def _shape(machine: Machine) -> Shape:
    return Shape.LLAMA_8B if machine.has_gpu else Shape.TINY


def _read_lengths(text: str) -> list[int]:
    try:
        lengths = sorted({int(length) for length in text.split(",")})
    except ValueError as error:
        raise LiveError(
            f"--lengths {text} is not a list of numbers: separate them by commas, as in 1024,4096"
        ) from error
    if lengths[0] < 1:
        raise LiveError(f"--lengths {text} has a prompt without tokens: leave it out")
    return lengths


def _read_policies(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in POLICY_NAMES:
            raise UnknownPolicyError(name, list(POLICY_NAMES))
    return names
