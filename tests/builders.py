"""Small real objects for tests, with every number spelled out."""

from collections.abc import Sequence
from random import Random

from router import (
    EngineModel,
    HeldRun,
    Replica,
    ReplicaId,
    RequestId,
    Router,
    RouteRequest,
    RouterOptions,
    hash_blocks,
    root_hash,
    session_key,
)
from router.policies import Policy, make_policy

BLOCK_SIZE = 4
ROOT = root_hash(model="m", adapter="", tenant="t", cache_salt="")
MODEL = EngineModel(step_s=0.01, prefill_tokens_per_s=1000, attention_s=0.0, decode_s=0.001, decode_context_s=0.000_001)
"""Slow, so that a token of a prompt is a millisecond."""


def make_replica(rank: int, *, kv_capacity_tokens: int = 400, generation: int = 0) -> Replica:
    """A replica; a later generation is the replacement that inherits the rank."""
    return Replica(ReplicaId(f"app#LLM#r{rank}g{generation}"), rank, kv_capacity_tokens)


def make_request(
    request_id: str, *blocks: int, num_prompt_tokens: int | None = None, session_id: str = ""
) -> RouteRequest:
    """A request for a prompt of full blocks, each named by a number; it ends one token into the next block."""
    token_ids = [block for block in blocks for _ in range(BLOCK_SIZE)]
    num_tokens = len(token_ids) + 1 if num_prompt_tokens is None else num_prompt_tokens
    hashes = hash_blocks(token_ids, block_size=BLOCK_SIZE, root=ROOT)
    return RouteRequest(RequestId(request_id), "m", "t", num_tokens, hashes, session_key(session_id))


def make_router(
    policy: str | Policy = "prefix_affinity",
    *,
    num_replicas: int = 2,
    kv_capacity_tokens: int = 400,
    seed: int = 0,
    ttl_s: float = 60,
) -> Router:
    """A router over a few replicas; the policy by name, or made already."""
    router = Router(
        policy=make_policy(policy, Random(seed)) if isinstance(policy, str) else policy,
        block_size=BLOCK_SIZE,
        options=RouterOptions(
            engine_model=MODEL,
            virtual_nodes=64,
            half_life_s=30,
            answer_tokens=1,
            arrival_ttl_s=ttl_s / 6,
            reservation_ttl_s=ttl_s,
            silence_s=1,
            exclusion_s=10,
            retry_s=2,
        ),
    )
    router.set_replicas(make_replica(rank, kv_capacity_tokens=kv_capacity_tokens) for rank in range(num_replicas))
    return router


def prefixes_of(held: Sequence[HeldRun]) -> dict[tuple[int, ...], int]:
    """Each run's whole prefix, and how many prompts end there; in whatever order they would be evicted."""
    prefixes: list[tuple[int, ...]] = []
    for run in held:
        prefixes.append((() if run.parent is None else prefixes[run.parent]) + run.block_hashes)
    return {prefix: run.num_ends for prefix, run in zip(prefixes, held, strict=True)}
