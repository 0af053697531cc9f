"""Is what the simulator reuses what vLLM reuses? Against the server that `warmroute serve` started from this folder."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated

import httpx
import typer
from rich.progress import track

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import running_server
from benchmarks.live.cache_parity.questions import Answered, Ask, conversations, scaled_down
from benchmarks.live.cache_parity.replica import AskedReplica, ReplicaCache, find_replica_cache
from benchmarks.live.cache_parity.result import CacheParity, Pair, kind_table, lines
from benchmarks.live.cache_parity.simulated import simulated_cached_tokens
from loadtests.replay.trace import TraceRequest, read_trace
from loadtests.report.console import notes_console

MIN_REQUESTS = 300

app = make_app()


@app.command()
@measurement
def main(
    requests: Annotated[int, typer.Option(min=MIN_REQUESTS, help="One after the other.")] = 400,
    trace: Annotated[
        Path | None, typer.Option(help="A trace in Mooncake's format instead of conversations of our own making.")
    ] = None,
    seed: SeedOption = 1,
) -> Report:
    """Ask one replica, with an empty cache, then the simulator, and compare what each reused."""
    recorded = None if trace is None else read_trace(trace).requests
    with running_server(full_headers=True) as server:
        cache = find_replica_cache(server)
        server.application.reset_caches()
        with httpx.Client(base_url=cache.url, trust_env=False) as client:
            replica = AskedReplica(client, model=server.run.model, replica_id=cache.replica_id)
            asked = _ask_all(replica.ask, recorded, requests, seed)
            title = f"asking replica {cache.replica_id}"
            served = list(track(asked, title, total=requests, console=notes_console()))
    result = _compare(served, cache)
    return Report([kind_table(result)], result, result.faults(), lines=list(lines(result)))


def _ask_all(ask: Ask, recorded: tuple[TraceRequest, ...] | None, num_requests: int, seed: int) -> Iterator[Answered]:
    rng = Random(f"cache parity {seed}")
    if recorded is None:
        return conversations(ask, num_requests=num_requests, rng=rng)
    return scaled_down(ask, recorded, num_requests=num_requests, rng=rng)


def _compare(served: list[Answered], cache: ReplicaCache) -> CacheParity:
    simulated = simulated_cached_tokens(
        served, block_size=cache.block_size, kv_capacity_tokens=cache.kv_capacity_tokens
    )
    pairs = [Pair(each, tokens) for each, tokens in zip(served, simulated, strict=True)]
    return CacheParity(pairs, cache.block_size, cache.kv_capacity_tokens)
