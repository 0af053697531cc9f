"""vLLM's own counters of its prefix cache, for each replica, from Prometheus text.

With `log_engine_metrics: true` vLLM counts through Ray: the counters are on each node's metrics agent, as
`ray_vllm_prefix_cache_queries_total` with a label `ReplicaId`. Otherwise they are on the replica's own `/metrics`,
as `vllm:prefix_cache_queries_total`, and the replica says who it is in a response header, where
`replicas.explain_headers` is `full`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serve_app.messages.response_headers import REPLICA_HEADER
from serve_app.messages.snapshot import short_id

METRIC_NAME = re.compile(r"(?:ray_)?vllm[:_]prefix_cache_(queries|hits)(_total)?")
REPLICA_LABEL = "ReplicaId"


class CountersError(Exception):
    """vLLM's counters are in none of the places where they could be."""


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


def counters_by_replica(text: str, *, replica: str | None = None) -> dict[str, CacheCounters]:
    """Each replica's counters, by short id; a replica's several engines and workers are summed.

    Args:
        text: a page of metrics.
        replica: whose page it is; by default each sample names its replica.

    """
    replica_to_tokens: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for which, sample in cache_samples(text):
        replica_id = replica or sample.labels.get(REPLICA_LABEL, "")
        if replica_id:
            replica_to_tokens[replica_id][which] += round(sample.value)
    return {
        replica_id: CacheCounters(tokens["queries"], tokens["hits"]) for replica_id, tokens in replica_to_tokens.items()
    }


class EngineCounters:
    """Finds and reads the counters.

    Args:
        client: any client; only absolute URLs are read.
        node_urls: the metrics agents of Ray's nodes.
        replica_urls: `/metrics` of everything that may be a replica; what is none does not say that it is one.

    """

    def __init__(self, client: httpx.AsyncClient, *, node_urls: Iterable[str], replica_urls: Iterable[str]) -> None:
        self._client = client
        self._node_urls = tuple(node_urls)
        self._replica_urls = tuple(replica_urls)

    async def read(self) -> dict[str, CacheCounters]:
        """Each replica's counters, by short id. A counter that never rose is not exported: a replica may be absent."""
        found: dict[str, CacheCounters] = {}
        for url in self._node_urls:
            found |= counters_by_replica((await self._get(url)).text)
        if found:
            return found
        for url in self._replica_urls:
            page = await self._get(url)
            if REPLICA_HEADER in page.headers:
                found |= counters_by_replica(page.text, replica=short_id(page.headers[REPLICA_HEADER]))
        return found

    async def require(self) -> dict[str, CacheCounters]:
        """Each replica's counters, as `read` returns them.

        Raises:
            CountersError: there is none at all.

        """
        found = await self.read()
        if not found:
            places = ", ".join((*self._node_urls, *self._replica_urls))
            raise CountersError(f"no vLLM prefix cache counters at {places}: set llm.log_engine_metrics: true")
        return found

    async def _get(self, url: str) -> httpx.Response:
        try:
            return await self._client.get(url)
        except httpx.TransportError:
            return httpx.Response(httpx.codes.SERVICE_UNAVAILABLE)
