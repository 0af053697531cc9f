"""What clients notice when processes die or when too many requests come."""

import asyncio
from typing import Annotated

import typer

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import running_server
from benchmarks.live.failures import engine, engine_result, overload, router, router_result, sustained
from loadtests.report.console import notes_console

app = make_app()

KeepAliveOption = Annotated[
    bool,
    typer.Option(help="Reuse connections; then some requests fail for the client's losing a race with their closing."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for all to be well again.")]


@app.command("engine")
@measurement
def engine_command(  # noqa: PLR0913, PLR0917  one for each option
    kill: Annotated[engine_result.Victim, typer.Option(help="The engine process, or the replica's actor.")] = (
        engine_result.Victim.ENGINE
    ),
    rank: Annotated[int | None, typer.Option(help="Rank of the replica; default: that with the most streams.")] = None,
    streams: Annotated[int, typer.Option(min=1, help="Long streams at a time.")] = 16,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each stream's answer.")] = 4000,
    seconds: Annotated[float, typer.Option(help="How long a stream should last to outlive HAProxy's reload.")] = 150,
    rate: Annotated[float, typer.Option(min=0.1, help="Short requests a second.")] = 2,
    wait: Annotated[float, typer.Option(min=0, help="Seconds from the streams' start to the kill.")] = 5,
    timeout: TimeoutOption = 900,
    keep_alive: KeepAliveOption = False,  # noqa: FBT002  typer's way
    seed: SeedOption = 1,
) -> Report:
    """Kill a replica's engine, or the replica, under long streams."""
    plan = engine_result.EngineDeathPlan(kill, rank, streams, tokens, seconds, rate, wait, timeout, keep_alive, seed)
    console = notes_console()
    with running_server(full_headers=True) as server:
        result = asyncio.run(engine.run(server, plan, console))
    return Report([engine_result.summary(result, plan)], result, result.faults())


@app.command("router")
@measurement
def router_command(
    both: Annotated[bool, typer.Option("--both", help="Then kill all routers at once.")] = False,  # noqa: FBT002
    clients: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    seconds: Annotated[float, typer.Option(help="Seconds of load, at least.")] = 60,
    wait: Annotated[float, typer.Option(min=0, help="Seconds before each kill, and after the last recovery.")] = 10,
    timeout: TimeoutOption = 300,
    keep_alive: KeepAliveOption = False,  # noqa: FBT002
    seed: SeedOption = 1,
) -> Report:
    """Kill one router, then perhaps all, under steady load."""
    plan = router_result.RouterDeathPlan(both, clients, seconds, wait, timeout, keep_alive, seed)
    console = notes_console()
    with running_server(full_headers=True) as server:
        result = asyncio.run(router.run(server, plan, console))
    tables = [router_result.over_time(result), router_result.summary(result)]
    return Report(tables, result, result.faults())


@app.command("overload")
@measurement
def overload_command(
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second, whatever becomes of them.")] = 60,
    max_requests: Annotated[int, typer.Option(min=1, help="Stop here if none was refused.")] = 1500,
    seconds_after: Annotated[float, typer.Option(min=0, help="Seconds to go on after the first refusal.")] = 5,
    prompt_words: Annotated[int, typer.Option(min=1, help="Words of each prompt; two or three tokens each.")] = 700,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 16,
    seed: SeedOption = 1,
) -> Report:
    """Send more long prompts than the replicas take."""
    plan = overload.OverloadPlan(rate, max_requests, seconds_after, prompt_words, answer_tokens, seed)
    console = notes_console()
    with running_server() as server:
        result = asyncio.run(overload.run(server, plan, console))
    line = f"Refused by the routers' own count: {overload.refused_by_routers(result)}"
    return Report([overload.summary(result)], result, result.faults(), lines=[line])


@app.command("sustained")
@measurement
def sustained_command(
    factor: Annotated[float, typer.Option(min=1, help="Factor on the capacity, which is measured first.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of overload.")] = 300,
    calm: Annotated[float, typer.Option(min=1, help="Seconds of calm before it, and after it.")] = 120,
    slo: Annotated[float, typer.Option(min=0, help="Seconds to the first token of 95 % of what is admitted.")] = 5,
    recovery: Annotated[float, typer.Option(min=0, help="Seconds until all is normal again.")] = 30,
    seed: SeedOption = 1,
) -> Report:
    """Send for minutes what the replicas cannot do: shed, keep the promise to the admitted, recover."""
    plan = sustained.SustainedPlan(factor, seconds, calm, slo, recovery, seed)
    console = notes_console()
    with running_server() as server:
        result = asyncio.run(sustained.run(server, plan, console))
    return Report([sustained.summary(result)], result, result.faults(), lines=sustained.lines(result))
