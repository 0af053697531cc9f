"""Does a simulated engine do as vLLM does? Against servers that `warmroute serve` started from this folder, in turn:

warmroute serve configs/cpu-demo.yaml            # in another terminal
python -m benchmarks engine_fidelity record run.json
python -m benchmarks engine_fidelity settings run.json configs/cpu-demo.yaml > simulated.yaml
warmroute serve simulated.yaml                   # in place of the first
python -m benchmarks engine_fidelity replay run.json
"""

import asyncio
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import typer
import yaml

from benchmarks.harness.running_server import (
    JsonOption,
    SeedOption,
    Server,
    fail,
    make_console,
    running_server,
    verdict,
    write_json,
)
from benchmarks.harness.snapshots import rank_to_replica, short
from benchmarks.live.engine_fidelity.comparison import Comparison
from benchmarks.live.engine_fidelity.recording import Recording, RecordingError, Served, load_recording, served
from loadtests.bench.driver import Driver
from loadtests.bench.experiment import make_client
from loadtests.bench.records import SentTurn
from loadtests.bench.traffic import read_traffic
from loadtests.client.exchange import exchange
from loadtests.client.turn_request import turn_request
from loadtests.workloads import Session, TextsError, sessions
from serve_app.calibration import main as calibration
from serve_app.calibration.place import find_place
from serve_app.local.cluster import Run
from serve_app.local.haproxy import replica_urls

CALIBRATION = calibration.Plan(longest=2048, streams=8, repetitions=3)
THINK_SCALE = 0.02
"""Users pause for minutes; so it takes seconds."""
RecordingArgument = Annotated[Path, typer.Argument(help="Where the recorded run is.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command()
def record(
    path: RecordingArgument,
    workload: Annotated[str, typer.Option(help="One that `warmroute bench` knows.")] = "mix",
    num_sessions: Annotated[int, typer.Option("--sessions", min=1)] = 60,
    rate: Annotated[float, typer.Option(min=0.01, help="Sessions a second.")] = 0.3,
    seed: SeedOption = 1,
) -> None:
    """Measure a replica's constants, then send sessions through the routers, and note what became of each request."""
    console = make_console()
    made = _sessions(workload, num_sessions, seed)
    try:
        with find_place(Run.load(), url=None, replica=None) as place:
            fit = calibration.measure(CALIBRATION, place, console)
        with running_server(full_headers=True) as server:
            if server.run.engine != "vllm":
                fail("this server's engines are simulated: record a real one")
            server.application.reset_caches()
            records = asyncio.run(_drive(server, made, rate=rate, seed=seed))
            ranks = rank_to_replica(server.application.routers()[0])
        recording = Recording(workload, num_sessions, seed, calibration.constants(fit), served(records, ranks))
    except (RecordingError, *calibration.FAILURES) as error:
        fail(str(error))
    recording.save(path)
    console.print(f"{len(recording.served)} requests recorded; the engine's constants: {recording.engine_model}")


@app.command()
def settings(path: RecordingArgument, config: Annotated[Path, typer.Argument(help="Of the recorded server.")]) -> None:
    """Print those settings with simulated engines of the measured constants."""
    document: dict[str, Any] = yaml.safe_load(config.read_text())
    document |= {"engine": "simulated", "engine_model": _load(path).engine_model}
    document.setdefault("local", {})["memory_per_replica_gib"] = 1.2
    print(yaml.safe_dump(document, sort_keys=False), end="")  # noqa: T201  it is the output


@app.command()
def replay(path: RecordingArgument, json_file: JsonOption = None) -> None:
    """Send each request at its time to the simulated replica of the same rank, and compare."""
    console = make_console()
    recording = _load(path)
    made = _sessions(recording.workload, recording.num_sessions, recording.seed)
    with running_server() as server:
        if server.run.engine != "simulated":
            fail("this server's engines are real: serve the settings that `settings` prints")
        server.application.reset_caches()
        ranks, urls = rank_to_replica(server.application.routers()[0]), replica_urls(server.run.run_dir)
        rank_to_url = {rank: urls[short(replica)] for rank, replica in ranks.items()}
        simulated = asyncio.run(_replay(recording, made, rank_to_url, model=server.run.model))
    comparison = Comparison(recording.served, simulated)
    console.print(comparison.table())
    console.print(comparison.size_table())
    for line in comparison.lines():
        console.print(line)
    write_json(json_file, comparison.as_json())
    verdict(console, comparison.faults())


def _load(path: Path) -> Recording:
    try:
        return load_recording(path)
    except RecordingError as error:
        fail(str(error))


def _sessions(workload: str, num_sessions: int, seed: int) -> list[Session]:
    try:
        traffic = read_traffic([workload])[0]
    except (TextsError, KeyError) as error:
        fail(f"workload {workload}: {error}")
    return list(islice(sessions(traffic.workload, traffic.texts, seed=seed), num_sessions))


async def _drive(server: Server, made: list[Session], *, rate: float, seed: int) -> list[SentTurn]:
    rng, starts_s, now_s = Random(f"engine fidelity {seed}"), [], 0.0
    for _ in made:
        starts_s.append(now_s)
        now_s += rng.expovariate(rate)
    async with make_client(server.run.url) as client:
        return await Driver(client, model=server.run.model, think_scale=THINK_SCALE).open_loop(made, starts_s)


async def _replay(
    recording: Recording, made: list[Session], rank_to_url: Mapping[int, str], *, model: str
) -> list[Served]:
    id_to_session = {each.session_id: each for each in made}
    start_s = asyncio.get_running_loop().time()

    async def send(client: httpx.AsyncClient, each: Served) -> Served:
        request = turn_request(id_to_session[each.session], each.turn, model=model)
        await asyncio.sleep(start_s + each.sent_s - asyncio.get_running_loop().time())
        answer = await exchange(client, request)
        if not answer.is_complete or answer.stream is None or answer.first_byte_s is None:
            fail(f"{request.request_id}: {answer.outcome_text}")
        stream = answer.stream
        return Served(
            each.session,
            each.turn,
            each.sent_s,
            each.rank,
            stream.prompt_tokens,
            stream.cached_tokens,
            answer.first_byte_s,
        )

    clients = {rank: make_client(url) for rank, url in rank_to_url.items()}
    try:
        return list(await asyncio.gather(*(send(clients[each.rank], each) for each in recording.served)))
    finally:
        for client in clients.values():
            await client.aclose()
