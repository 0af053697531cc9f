"""The command line of the experiments."""

import asyncio
from typing import Annotated

import typer

from benchmarks.harness.running_server import JsonOption, SeedOption, make_console, running_server, verdict, write_json
from benchmarks.live.failures import engine, engine_result, overload, router, router_result, sustained

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

KeepAliveOption = Annotated[
    bool,
    typer.Option(help="Reuse connections; then some requests fail for the client's losing a race with their closing."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for all to be well again.")]


@app.command("engine")
def engine_command(  # noqa: PLR0913, PLR0917  one for each option
    kill: Annotated[engine_result.Victim, typer.Option(help="The engine process, or the replica's actor.")] = (
        engine_result.Victim.ENGINE
    ),
    rank: Annotated[int | None, typer.Option(help="Of the replica; default: that with the most streams.")] = None,
    streams: Annotated[int, typer.Option(min=1, help="Long streams at a time.")] = 16,
    tokens: Annotated[int, typer.Option(min=1, help="Of each stream's answer.")] = 4000,
    seconds: Annotated[float, typer.Option(help="How long a stream should last to outlive HAProxy's reload.")] = 150,
    rate: Annotated[float, typer.Option(min=0.1, help="Short requests a second.")] = 2,
    wait: Annotated[float, typer.Option(min=0, help="Seconds from the streams' start to the kill.")] = 5,
    timeout: TimeoutOption = 900,
    keep_alive: KeepAliveOption = False,  # noqa: FBT002  typer's way
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Kill a replica's engine, or the replica, under long streams."""
    plan = engine_result.Plan(kill, rank, streams, tokens, seconds, rate, wait, timeout, keep_alive, seed)
    console = make_console()
    with running_server(full_headers=True) as server:
        result = asyncio.run(engine.run(server, plan, console))
    console.print(engine_result.summary(result, plan))
    write_json(json_file, engine_result.as_json(result))
    verdict(console, result.faults())


@app.command("router")
def router_command(
    both: Annotated[bool, typer.Option("--both", help="Then kill all routers at once.")] = False,  # noqa: FBT002
    clients: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    seconds: Annotated[float, typer.Option(help="Of load, at least.")] = 60,
    wait: Annotated[float, typer.Option(min=0, help="Seconds before each kill, and after the last recovery.")] = 10,
    timeout: TimeoutOption = 300,
    keep_alive: KeepAliveOption = False,  # noqa: FBT002
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Kill one router, then perhaps all, under steady load."""
    plan = router_result.Plan(both, clients, seconds, wait, timeout, keep_alive, seed)
    console = make_console()
    with running_server(full_headers=True) as server:
        result = asyncio.run(router.run(server, plan, console))
    console.print(router_result.over_time(result))
    console.print(router_result.summary(result))
    write_json(json_file, router_result.as_json(result))
    verdict(console, result.faults())


@app.command("overload")
def overload_command(
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second, whatever becomes of them.")] = 60,
    max_requests: Annotated[int, typer.Option(min=1, help="Stop here if none was refused.")] = 1500,
    seconds_after: Annotated[float, typer.Option(min=0, help="Go on so long after the first refusal.")] = 5,
    prompt_words: Annotated[int, typer.Option(min=1, help="Of each prompt; two or three tokens each.")] = 700,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 16,
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Send more long prompts than the replicas take."""
    plan = overload.Plan(rate, max_requests, seconds_after, prompt_words, answer_tokens, seed)
    console = make_console()
    with running_server() as server:
        result = asyncio.run(overload.run(server, plan, console))
    console.print(overload.summary(result))
    console.print(f"Refused by the routers' own count: {overload.refused_by_routers(result)}")
    write_json(json_file, overload.as_json(result))
    verdict(console, result.faults())


@app.command("sustained")
def sustained_command(
    factor: Annotated[float, typer.Option(min=1, help="Times the capacity, which is measured first.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of overload.")] = 300,
    calm: Annotated[float, typer.Option(min=1, help="Seconds of calm before it, and after it.")] = 120,
    slo: Annotated[float, typer.Option(min=0, help="Seconds to the first token of 95 % of what is admitted.")] = 5,
    recovery: Annotated[float, typer.Option(min=0, help="Seconds until all is normal again.")] = 30,
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Send for minutes what the replicas cannot do: shed, keep the promise to the admitted, recover."""
    plan = sustained.Plan(factor, seconds, calm, slo, recovery, seed)
    console = make_console()
    with running_server() as server:
        result = asyncio.run(sustained.run(server, plan, console))
    console.print(sustained.summary(result))
    for line in sustained.lines(result):
        console.print(line)
    write_json(json_file, sustained.as_json(result))
    verdict(console, result.faults())
