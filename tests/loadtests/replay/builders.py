"""Small traces and scenarios, and the routers and engines that go with them."""

from random import Random

from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.processes import make_router
from loadtests.replay.simulation import Scenario
from loadtests.replay.trace import TraceRequest
from router import BlockHash, Replica, ReplicaId, RequestId, Router, RouteRequest
from router.policies import make_policy
from serve_app.settings.schema import RouterSettings

BLOCK_SIZE = 16
OPTIONS = EngineOptions(
    step_s=0.01,
    prefill_tokens_per_s=1000,
    decode_s=0.001,
    decode_context_s=0,
    max_step_tokens=100,
    max_sequences=3,
    kv_capacity_tokens=20 * BLOCK_SIZE,
    waiting_order="arrival",  # by which tests can tell who is next
)


def make_trace_request(
    *blocks: int, arrival_s: float = 0, extra_tokens: int = 1, output_tokens: int = 2
) -> TraceRequest:
    """A prompt of full blocks, each named by a number, and some tokens of the next."""
    return TraceRequest(
        arrival_s, len(blocks) * BLOCK_SIZE + extra_tokens, output_tokens, tuple(BlockHash(block) for block in blocks)
    )


def make_conversations(num_conversations: int = 12, *, num_turns: int = 4, seed: int = 1) -> tuple[TraceRequest, ...]:
    """Conversations with one system prompt in common; each turn's prompt is the last one's and two blocks more."""
    rng = Random(seed)
    requests = []
    for conversation in range(num_conversations):
        arrival_s, blocks = rng.uniform(0, 20), [0]
        for _ in range(num_turns):
            blocks += [1000 * (conversation + 1) + len(blocks), 1000 * (conversation + 1) + len(blocks) + 1]
            requests.append(make_trace_request(*blocks, arrival_s=arrival_s, output_tokens=rng.randint(1, 9)))
            arrival_s += rng.uniform(1, 6)
    return tuple(sorted(requests, key=lambda request: request.arrival_s))


def make_scenario(*, num_routers: int = 2, seed: int = 1) -> Scenario:
    """Three small and slow engines, busy for about half of the time with a few conversations."""
    return Scenario(
        make_conversations(seed=seed),
        num_replicas=3,
        num_routers=num_routers,
        seed=seed,
        engine=OPTIONS.model_copy(update={"prefill_tokens_per_s": 60}),
        block_size=BLOCK_SIZE,
    )


def make_engine(*, num_blocks: int = 20) -> Engine:
    """A slow one."""
    options = OPTIONS.model_copy(update={"kv_capacity_tokens": num_blocks * BLOCK_SIZE})
    return Engine(options, block_size=BLOCK_SIZE)


def make_replicas(num_replicas: int) -> list[Replica]:
    """Of the engine's size."""
    return [Replica(ReplicaId(f"replica-{rank}"), rank, OPTIONS.kv_capacity_tokens) for rank in range(num_replicas)]


def make_small_router(num_replicas: int = 1) -> Router:
    """A router with production's settings."""
    return make_router(
        make_replicas(num_replicas),
        policy=make_policy("prefix_affinity", Random(1)),
        block_size=BLOCK_SIZE,
        routers=RouterSettings(),
        engine_model=OPTIONS,
    )


def make_route_request(request_id: str, request: TraceRequest) -> RouteRequest:
    """The same, as the router sees it."""
    return request.asked(RequestId(request_id))
