"""Small real objects for tests, with every number spelled out."""

from collections.abc import Sequence
from random import Random

from router import (
    EngineModel,
    Health,
    HeldRun,
    Replica,
    ReplicaId,
    RequestId,
    Reservation,
    Reservations,
    Router,
    RouteRequest,
    hash_blocks,
    root_hash,
    session_key,
)
from router.policies import Policy, make_policy
from router.state import ProgressState

BLOCK_SIZE = 4
ROOT = root_hash(model="m", adapter="", tenant="t", cache_salt="")
MODEL = EngineModel(step_s=0.01, prefill_tokens_per_s=1000, attention_s=0.0, decode_s=0.001, decode_context_s=0.000_001)
"""Slow, so that a token of a prompt is a millisecond."""


def make_replica(rank: int, *, kv_capacity_tokens: int = 400, generation: int = 0) -> Replica:
    """A replica; a later generation is the replacement that inherits the rank."""
    return Replica(ReplicaId(f"app#LLM#r{rank}g{generation}"), rank, kv_capacity_tokens)


def make_request(
    request_id: str,
    *blocks: int,
    num_prompt_tokens: int | None = None,
    session_id: str = "",
    max_answer_tokens: int | None = None,
    num_prompts: int = 1,
    num_choices: int = 1,
) -> RouteRequest:
    """A request for a prompt of full blocks, each named by a number; it ends one token into the next block."""
    token_ids = [block for block in blocks for _ in range(BLOCK_SIZE)]
    num_tokens = len(token_ids) + 1 if num_prompt_tokens is None else num_prompt_tokens
    hashes = hash_blocks(token_ids, block_size=BLOCK_SIZE, root=ROOT)
    return RouteRequest(
        RequestId(request_id),
        "m",
        "t",
        num_tokens,
        hashes,
        session_key(session_id),
        max_answer_tokens=max_answer_tokens,
        num_prompts=num_prompts,
        num_choices=num_choices,
    )


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
        virtual_nodes=64,
        health=Health(silence_s=1, exclusion_s=10, retry_s=2),
        load=Reservations(model=MODEL, half_life_s=30, answer_tokens=1, arrival_ttl_s=ttl_s / 6, ttl_s=ttl_s),
    )
    router.set_replicas(make_replica(rank, kv_capacity_tokens=kv_capacity_tokens) for rank in range(num_replicas))
    return router


def set_speed(router: Router, replica_id: ReplicaId, speed: float) -> None:
    """Make a router sure of how fast a replica is, as a multiple of the model's speed; receipts change it no more."""
    load = router.cluster.load
    work_s = 2 * load.export_progress(replica_id, now=0).work_s + 1e9  # whoever has seen more is believed
    state = ProgressState(elapsed_s=0, work_s=work_s, seconds=work_s / speed)
    load.adopt_progress(replica_id, state, now=0)


def book_waiting(router: Router, replica_id: ReplicaId, pending_tokens: int, *, request_id: str = "waiting") -> None:
    """Make a replica busy with a request of unknown prompt, and of hardly any answer."""
    request = make_request(request_id, num_prompt_tokens=pending_tokens, max_answer_tokens=1)
    reservation = Reservation(request, replica_id, 0, is_computed=True, pending_tokens=pending_tokens)
    assert router.on_reserved(reservation, now=0)


def book_running(
    router: Router, replica_id: ReplicaId, request_id: str, *, prompt_tokens: int, answer_tokens: int, choices: int = 1
) -> None:
    """Let a replica decode answers, whose length is known from its limit as long as none was learned."""
    request = make_request(
        request_id, num_prompt_tokens=prompt_tokens, max_answer_tokens=answer_tokens, num_choices=choices
    )
    reservation = Reservation(request, replica_id, 0, is_computed=True, pending_tokens=prompt_tokens)
    assert router.on_reserved(reservation, now=0)
    router.on_prefilled(request.request_id, prompt_tokens=prompt_tokens, cached_tokens=0, now=0)


def prefixes_of(held: Sequence[HeldRun]) -> dict[tuple[int, ...], int]:
    """Each run's whole prefix, and how many prompts end there; in whatever order they would be evicted."""
    prefixes: list[tuple[int, ...]] = []
    for run in held:
        prefixes.append((() if run.parent is None else prefixes[run.parent]) + run.block_hashes)
    return {prefix: run.num_ends for prefix, run in zip(prefixes, held, strict=True)}
