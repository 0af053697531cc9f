"""Dynamo's cost by Ray's books. Prompts are of 16-token blocks and one token; a step holds 100 tokens."""

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from loadtests.replay.rivals.ray_kv_aware import HOST_CREDIT, RayKvAware
from router import Reason
from tests.loadtests.replay.builders import BLOCK_SIZE, make_route_request
from tests.loadtests.replay.builders import make_trace_request as prompt
from tests.loadtests.replay.rivals.builders import Cluster


def potential_loads(cluster: Cluster, *blocks: int) -> list[tuple[float, int]]:
    """Prefill tokens and active blocks at each replica with a further prompt of these blocks."""
    policy = cluster.router.policy
    assert isinstance(policy, RayKvAware)
    cluster.chosen(*blocks)
    request = make_route_request("asked", prompt(*blocks))
    return [policy.potential_load(each, request) for each in cluster.replica_ids]


def test_worked_example() -> None:
    """The first holds four blocks of five, and the request that brought them is active until it ends.

    In blocks, the second costs 81 / 16 + 5 = 10.1 throughout.
    """
    cluster = Cluster("ray_kv_aware", num_replicas=2)
    cluster.submit(0, 1, 2, 3, 4)
    assert cluster.chosen(1, 2, 3, 4, 5)[0] == 1  # (65 + 81) / 16 + 5
    cluster.engines[0].start_step()
    assert cluster.chosen(1, 2, 3, 4, 5)[0] == 1  # (65 + 17) / 16 + 5: a token more
    cluster.engines[0].finish_step()
    cluster.router.on_prefilled(cluster.request_id(0, 1, 2, 3, 4), prompt_tokens=65, cached_tokens=0, now=0)
    assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0  # 17 / 16 + 5
    cluster.submit(0, 50, 51, 52, 53, steps=1)
    assert cluster.chosen(1, 2, 3, 4, 5)[0] == 1  # (65 + 17) / 16 + 9
    cluster.end(0, 50, 51, 52, 53)
    assert cluster.chosen(1, 2, 3, 4, 5)[0] == 0


def test_what_requests_share_counts_once_and_answers_nothing() -> None:
    """Two requests with one block in common, one block of its own each, and long answers; a third comes."""
    cluster = Cluster("ray_kv_aware", num_replicas=2)
    cluster.submit(0, 1, 2)
    cluster.submit(0, 1, 3, steps=50)
    assert potential_loads(cluster, 1, 9) == [(3 * 33, 4), (33, 2)]
    cluster.router.on_prefilled(cluster.request_id(0, 1, 2), prompt_tokens=33, cached_tokens=0, now=0)
    assert potential_loads(cluster, 1, 9) == [(2 * 33, 4), (33, 2)]
    cluster.end(0, 1, 2)
    assert potential_loads(cluster, 1, 9) == [(2 * 33, 3), (33, 2)]
    cluster.end(0, 1, 3)
    assert potential_loads(cluster, 1, 9) == [(33, 2), (33, 2)]


def test_a_replica_that_is_gone_is_forgotten() -> None:
    """With all that was booked there."""
    cluster = Cluster("ray_kv_aware", num_replicas=2)
    cluster.submit(0, 1, 2)
    cluster.router.set_replicas([each for each in cluster.router.cluster.replicas if each.rank == 1])
    assert cluster.chosen(1, 2) == (1, Reason.BASELINE)


@pytest.mark.skipif(find_spec("dynamo") is None, reason="ai-dynamo-runtime is optional")
def test_its_books_are_those_of_the_service_that_ray_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the same reservations and first token, `potential_loads` says the same for a further prompt."""
    monkeypatch.setenv("DYN_ROUTER_USE_KV_EVENTS", "true")  # `DynamoService` has turned it off in this process
    cluster = Cluster("ray_kv_aware", num_replicas=2)
    sent = [(0, (1, 2)), (0, (1, 3)), (1, (1, 2, 7)), (0, (8,))]
    for rank, blocks in sent:
        cluster.submit(rank, *blocks)
    cluster.router.on_prefilled(cluster.request_id(0, 1, 2), prompt_tokens=33, cached_tokens=0, now=0)
    cluster.end(0, 8)
    assert potential_loads(cluster, 1, 2, 9) == asyncio.run(_loads_by_the_service(sent))


@pytest.mark.skipif(find_spec("dynamo") is None, reason="ai-dynamo-runtime is optional")
def test_its_numbers_are_dynamos_defaults() -> None:
    """Ray changes none of them. A new version may have others; then the peer has to follow."""
    from dynamo.llm import KvRouterConfig

    config = KvRouterConfig()
    assert (config.overlap_score_credit, config.prefill_load_scale, config.decode_active_request_weight) == (1, 1, 0)
    assert f"host_cache_hit_weight={HOST_CREDIT}" in KvRouterConfig.__text_signature__
    assert "router_track_output_blocks=False" in KvRouterConfig.__text_signature__


def test_ray_still_tells_nothing_of_answers_by_default() -> None:
    """By source; then answers count nothing."""
    from ray.llm._internal.serve import constants

    source = Path(constants.__file__).read_text()
    assert 'os.environ.get("RAY_SERVE_LLM_ENABLE_DECODE_BLOCK_PROGRESS", "0") == "1"' in source


async def _loads_by_the_service(sent: list[tuple[int, tuple[int, ...]]]) -> list[tuple[float, int]]:
    from dynamo.llm import SelectionService

    scope = {"model_name": "default", "tenant_id": "default"}
    service = SelectionService(indexer_threads=1)
    for worker_id in (0, 1):
        await service.upsert_worker(
            scope
            | {"worker_id": worker_id, "endpoint": "ray://x", "block_size": BLOCK_SIZE}
            | {"data_parallel_start_rank": 0, "data_parallel_size": 1}
            | {"kv_events_endpoints": {0: f"ipc:///dev/null/absent-{worker_id}"}}
        )
    for number, (rank, blocks) in enumerate(sent):
        request: dict[str, Any] = {"selection_id": f"{number}", "token_ids": _token_ids(blocks)}
        await service.select_and_reserve(scope | request | {"allowed_worker_ids": [rank]})
    await service.prefill_complete("0")
    await service.free_reservation("3")
    loads = await service.potential_loads(scope | {"token_ids": _token_ids((1, 2, 9))})
    await service.shutdown_async()
    in_order = sorted(loads, key=lambda each: int(each["worker_id"]))
    return [(each["potential_prefill_tokens"], each["potential_decode_blocks"]) for each in in_order]


def _token_ids(blocks: tuple[int, ...]) -> list[int]:
    return [block for block in blocks for _ in range(BLOCK_SIZE)] + [10**6]
