"""vLLM's own counters of its prefix cache, for each replica, from Prometheus text.

With `log_engine_metrics: true` vLLM counts through Ray: the counters are on each node's metrics agent, as
`ray_vllm_prefix_cache_queries_total` with a label `ReplicaId`.
"""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.harness.errors import MeasurementError

METRIC_NAME = re.compile(r"ray_vllm_prefix_cache_(queries|hits)(_total)?")
REPLICA_LABEL = "ReplicaId"
QUIET_S = 25.0
"""Ray's processes export their metrics every 10 s."""
SETTLE_TIMEOUT_S = 180.0

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class CacheCounters:
    """Tokens since the replica started."""

    queries: int = 0
    hits: int = 0

    def since(self, before: "CacheCounters") -> "CacheCounters":
        """What was added after `before`."""
        return CacheCounters(self.queries - before.queries, self.hits - before.hits)


def cache_samples(text: str) -> list[tuple[str, Sample]]:
    """The samples of the prefix cache: "queries" or "hits", and the sample.

    Ray and prometheus_client may export a counter under two names; then only the one that ends in `_total` counts.
    """
    relevant = [line for line in text.splitlines() if "prefix_cache_" in line and not line.startswith("#")]
    found = []
    for family in text_string_to_metric_families("\n".join([*relevant, ""])):
        for sample in family.samples:
            match = METRIC_NAME.fullmatch(sample.name)
            if match is not None:
                found.append((match[1], match[2] is not None, sample))
    has_totals = any(is_total for _, is_total, _ in found)
    return [(which, sample) for which, is_total, sample in found if is_total or not has_totals]


def counters_by_replica(text: str) -> dict[str, CacheCounters]:
    """Each replica's counters, by short id; a replica's several engines and workers are summed."""
    replica_to_tokens: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for which, sample in cache_samples(text):
        replica_to_tokens[sample.labels[REPLICA_LABEL]][which] += round(sample.value)
    return {
        replica_id: CacheCounters(tokens["queries"], tokens["hits"]) for replica_id, tokens in replica_to_tokens.items()
    }


async def read_counters(client: httpx.AsyncClient) -> dict[str, CacheCounters]:
    """Each replica's counters, by short id. A counter that never rose is not exported: a replica may be absent."""
    import ray

    found: dict[str, CacheCounters] = {}
    for node in ray.nodes():
        if node["Alive"]:
            page = await client.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics")
            found |= counters_by_replica(page.text)
    return found


async def settled(
    read: Callable[[], Awaitable[Value]],
    *,
    quiet_s: float = QUIET_S,
    timeout_s: float = SETTLE_TIMEOUT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Value:
    """The value that `read` gives once it has given the same for `quiet_s`; counters are exported late.

    Raises:
        MeasurementError: it still changes after `timeout_s`.

    """
    started_s = same_since_s = clock()
    value = await read()
    while clock() - same_since_s < quiet_s:
        if clock() - started_s > timeout_s:
            raise MeasurementError(f"the counters still change after {timeout_s:.0f} s: let no one else use the server")
        await sleep(1.0)
        newer = await read()
        if newer != value:
            value, same_since_s = newer, clock()
    return value
