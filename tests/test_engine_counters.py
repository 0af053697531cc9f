"""vLLM's counters belong to the replica that counted, and are exported late."""

import itertools
from collections.abc import Iterator

import pytest

from benchmarks.harness.errors import MeasurementError
from tests.engine_counters import CacheCounters, counters_by_replica, settled

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


def test_ray_names_the_replica_of_each_sample() -> None:
    """Workers and engines are summed, the second name of a counter is not counted twice, neighbours are left out."""
    assert counters_by_replica(RAY_PAGE) == {"one": CacheCounters(1234, 640), "two": CacheCounters(5_000_000, 0)}


def test_the_name_without_total_serves_where_there_is_no_other() -> None:
    """As an older Ray has it."""
    page = 'ray_vllm_prefix_cache_queries{ReplicaId="one"} 12.0\n'
    assert counters_by_replica(page) == {"one": CacheCounters(12, 0)}


class FakeClock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """At once."""
        self.now_s += seconds


async def settle(values: Iterator[int], clock: FakeClock, *, timeout_s: float = 100) -> int:
    """With the quiet time of the tests."""

    async def read() -> int:
        return next(values)

    return await settled(read, quiet_s=5, timeout_s=timeout_s, clock=clock, sleep=clock.sleep)


async def test_a_value_counts_once_it_has_stood_still() -> None:
    """A change starts the quiet time anew."""
    clock = FakeClock()
    assert await settle(itertools.chain([1, 1, 1, 2, 2, 3], itertools.repeat(4)), clock) == 4
    assert clock() == 6 + 5


async def test_what_never_stands_still_is_an_error() -> None:
    """Somebody else uses the server."""
    with pytest.raises(MeasurementError, match="still change after 20 s"):
        await settle(itertools.count(), FakeClock(), timeout_s=20)
