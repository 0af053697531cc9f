"""vLLM's counters are found on either page, and each belongs to the replica that counted."""

import httpx
import pytest

from benchmarks.harness.engine_counters import (
    CacheCounters,
    CountersError,
    EngineCounters,
    cache_samples,
    counters_by_replica,
)
from serve_app.messages.response_headers import REPLICA_HEADER

RAY_PAGE = """\
# HELP ray_vllm_prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE ray_vllm_prefix_cache_queries_total counter
ray_vllm_prefix_cache_queries_total{ReplicaId="one",WorkerId="a",engine="0",model_name="a \\"demo\\", x{y}"} 1200.0
ray_vllm_prefix_cache_queries_total{ReplicaId="one",WorkerId="b",engine="1",model_name="demo"} 34.0
ray_vllm_prefix_cache_queries_total{ReplicaId="two",WorkerId="c",engine="0",model_name="demo"} 5.0e+06
ray_vllm_prefix_cache_queries{ReplicaId="one",WorkerId="a",engine="0",model_name="demo"} 1200.0
# HELP ray_vllm_prefix_cache_hits_total Prefix cache hits, in terms of number of cached tokens.
ray_vllm_prefix_cache_hits_total{ReplicaId="one",WorkerId="a",engine="0",model_name="demo"} 640.0
ray_vllm_external_prefix_cache_queries_total{ReplicaId="one",WorkerId="a",engine="0",model_name="demo"} 99.0
ray_tasks{State="RUNNING",ReplicaId="three"} 7.0
"""
OWN_PAGE = """\
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="demo"} 300.0
vllm:prefix_cache_queries_created{engine="0",model_name="demo"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="demo"} 64.0
"""
NODE = "http://node:1/metrics"
REPLICA = "http://replica:2/metrics"
OTHER = "http://router:3/metrics"


def test_ray_names_the_replica_of_each_sample() -> None:
    """Workers and engines are summed, the second name of a counter is not counted twice, neighbours are left out."""
    assert counters_by_replica(RAY_PAGE) == {"one": CacheCounters(1234, 640), "two": CacheCounters(5_000_000, 0)}


def test_the_name_without_total_serves_where_there_is_no_other() -> None:
    """As an older Ray has it."""
    page = 'ray_vllm_prefix_cache_queries{ReplicaId="one"} 12.0\n'
    assert counters_by_replica(page) == {"one": CacheCounters(12, 0)}


def test_a_replicas_own_page_is_all_its_own() -> None:
    """`_created` is a time, not a count."""
    assert counters_by_replica(OWN_PAGE, replica="one") == {"one": CacheCounters(300, 64)}
    assert counters_by_replica(OWN_PAGE) == {}
    assert [which for which, _ in cache_samples(OWN_PAGE)] == ["queries", "hits"]


def pages(node: str | None, replica: str) -> httpx.MockTransport:
    """A node's agent, which may be absent, a replica that says who it is, and something else."""

    def answer(request: httpx.Request) -> httpx.Response:
        match str(request.url):
            case "http://node:1/metrics" if node is None:
                raise httpx.ConnectError("refused")
            case "http://node:1/metrics":
                return httpx.Response(200, text=node)
            case "http://replica:2/metrics":
                return httpx.Response(200, text=replica, headers={REPLICA_HEADER: "SERVE_REPLICA::app#LLM#one"})
        return httpx.Response(200, text=OWN_PAGE.replace("300", "1"))

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (RAY_PAGE, {"one": CacheCounters(1234, 640), "two": CacheCounters(5_000_000, 0)}),
        ("ray_tasks 1.0\n", {"one": CacheCounters(300, 64)}),
        (None, {"one": CacheCounters(300, 64)}),
    ],
)
async def test_the_nodes_come_first_then_the_replicas(node: str | None, expected: dict[str, CacheCounters]) -> None:
    """Never both: it is one counter."""
    async with httpx.AsyncClient(transport=pages(node, OWN_PAGE)) as client:
        counters = EngineCounters(client, node_urls=[NODE], replica_urls=[OTHER, REPLICA])
        assert await counters.read() == expected
        assert await counters.require() == expected


async def test_none_anywhere_is_an_error_that_names_the_setting() -> None:
    """And the places that were looked at."""
    async with httpx.AsyncClient(transport=pages(None, "")) as client:
        counters = EngineCounters(client, node_urls=[NODE], replica_urls=[REPLICA])
        assert await counters.read() == {}
        with pytest.raises(CountersError, match=r"http://node:1/metrics, .*log_engine_metrics: true"):
            await counters.require()
