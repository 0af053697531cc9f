"""Does a simulated engine behave as vLLM does? Two servers that `warmroute serve` starts from this folder, in turn:

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

from benchmarks.harness.command import SeedOption, failures_told, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server
from benchmarks.harness.snapshots import rank_to_replica
from benchmarks.live.engine_fidelity.comparison import FidelityComparison
from benchmarks.live.engine_fidelity.recording import Recording, ServedTurn, load_recording, served
from loadtests.bench.driver import SessionDriver
from loadtests.bench.experiment import make_client
from loadtests.bench.records import SentTurn
from loadtests.bench.traffic import read_traffic
from loadtests.client.exchange import exchange
from loadtests.client.turn_request import turn_request
from loadtests.report.console import notes_console
from loadtests.workloads import Session, TextsError, sessions
from serve_app.calibration import command as calibration
from serve_app.calibration.measured_replica import find_replica
from serve_app.local.cluster import LocalRun
from serve_app.local.haproxy import replica_urls
from serve_app.messages.snapshot import short_id

CALIBRATION = calibration.CalibrationPlan(longest=2048, streams=8, repetitions=3)
THINK_SCALE = 0.02
"""Users pause for minutes; so it takes seconds."""
RecordingArgument = Annotated[Path, typer.Argument(help="Where the recorded run is.")]

app = make_app()


@app.command()
@measurement
def record(
    path: RecordingArgument,
    workload: Annotated[str, typer.Option(help="One that `warmroute bench` knows.")] = "mix",
    num_sessions: Annotated[int, typer.Option("--sessions", min=1)] = 60,
    rate: Annotated[float, typer.Option(min=0.01, help="Sessions a second.")] = 0.3,
    seed: SeedOption = 1,
) -> Report:
    """Measure a replica's constants, then send sessions through the routers, and note what became of each request."""
    made = _sessions(workload, num_sessions, seed)
    with find_replica(LocalRun.load(), url=None, replica=None) as place:
        fit = calibration.measure(CALIBRATION, place, notes_console())
    with running_server(full_headers=True) as server:
        if server.run.engine != "vllm":
            raise MeasurementError("this server's engines are simulated: record a real one")
        server.application.reset_caches()
        records = asyncio.run(_drive(server, made, rate=rate, seed=seed))
        ranks = rank_to_replica(server.application.routers()[0])
    recording = Recording(workload, num_sessions, seed, calibration.constants(fit), served(records, ranks))
    recording.save(path)
    line = f"{len(recording.served)} requests recorded; the engine's constants: {recording.engine_model}"
    return Report((), {"engine_model": recording.engine_model}, lines=[line])


@app.command()
def settings(path: RecordingArgument, config: Annotated[Path, typer.Argument(help="Of the recorded server.")]) -> None:
    """Print those settings with simulated engines of the measured constants."""
    document: dict[str, Any] = yaml.safe_load(config.read_text())
    with failures_told():
        recording = load_recording(path)
    document |= {"engine": "simulated", "engine_model": recording.engine_model}
    document.setdefault("local", {})["memory_per_replica_gib"] = 1.2
    print(yaml.safe_dump(document, sort_keys=False), end="")  # noqa: T201  it is the output


@app.command()
@measurement
def replay(path: RecordingArgument) -> Report:
    """Send each request at its time to the simulated replica of the same rank, and compare."""
    recording = load_recording(path)
    made = _sessions(recording.workload, recording.num_sessions, recording.seed)
    with running_server() as server:
        if server.run.engine != "simulated":
            raise MeasurementError("this server's engines are real: serve the settings that `settings` prints")
        server.application.reset_caches()
        ranks, urls = rank_to_replica(server.application.routers()[0]), replica_urls(server.run.run_dir)
        rank_to_url = {rank: urls[short_id(replica)] for rank, replica in ranks.items()}
        simulated = asyncio.run(_replay(recording, made, rank_to_url, model=server.run.model))
    comparison = FidelityComparison(recording.served, simulated)
    tables = [comparison.table(), comparison.size_table()]
    return Report(tables, comparison, comparison.faults(), lines=comparison.lines())


def _sessions(workload: str, num_sessions: int, seed: int) -> list[Session]:
    try:
        traffic = read_traffic([workload])[0]
    except (TextsError, KeyError) as error:
        raise MeasurementError(f"workload {workload}: {error}") from error
    return list(islice(sessions(traffic.workload, traffic.texts, seed=seed), num_sessions))


async def _drive(server: Server, made: list[Session], *, rate: float, seed: int) -> list[SentTurn]:
    rng, starts_s, now_s = Random(f"engine fidelity {seed}"), [], 0.0
    for _ in made:
        starts_s.append(now_s)
        now_s += rng.expovariate(rate)
    async with make_client(server.run.url) as client:
        return await SessionDriver(client, model=server.run.model, think_scale=THINK_SCALE).open_loop(made, starts_s)


async def _replay(
    recording: Recording, made: list[Session], rank_to_url: Mapping[int, str], *, model: str
) -> list[ServedTurn]:
    id_to_session = {each.session_id: each for each in made}
    start_s = asyncio.get_running_loop().time()

    async def send(client: httpx.AsyncClient, each: ServedTurn) -> ServedTurn:
        request = turn_request(id_to_session[each.session], each.turn, model=model)
        await asyncio.sleep(start_s + each.sent_s - asyncio.get_running_loop().time())
        answer = await exchange(client, request)
        if not answer.is_complete or answer.stream is None or answer.first_byte_s is None:
            raise MeasurementError(f"{request.request_id}: {answer.outcome_text}")
        stream = answer.stream
        return ServedTurn(
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
