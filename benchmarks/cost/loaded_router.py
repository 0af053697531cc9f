"""A router as it is after hours of traffic: caches filled to capacity, requests under way, load everywhere.

It is driven through its public methods only, so the numbers stay comparable when the core is rewritten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from router import BlockHash, Replica, ReplicaId, RequestId, Reservation, Router, RouteRequest, RoutingDecision
from router.policies import make_policy
from serve_app.settings.schema import EngineModelSettings, RouterSettings, RoutingSettings

REPLICA_KV_TOKENS = 500_000
"""What a GPU has room for besides a model of a few billion weights; the size at which our design compares policies."""
MAX_CACHED_BLOCKS = 2**21
"""Blocks over all replicas: with more replicas each caches fewer, or filling would need too much memory."""
NUM_TENANTS = 64
TENANT_PROMPT_TOKENS = 2_048
MEAN_CONVERSATION_TOKENS = 12_500
"""Mean prompt of the Mooncake conversation trace."""
NUM_RETURNING = 32
REQUESTS_UNDER_WAY = 4
REQUESTS_WAITING = 2
"""Requests that wait, of those under way at each replica; the others are being decoded."""
PREFILL_TOKENS_PER_S = 10_000
"""Prefill speed of each replica, as in our design's simulator."""
STEP_S = 0.001


@dataclass(frozen=True, slots=True)
class Size:
    """How much state there is."""

    num_replicas: int
    block_size: int

    @property
    def capacity_blocks(self) -> int:
        """Blocks that each replica can cache."""
        return min(REPLICA_KV_TOKENS // self.block_size, MAX_CACHED_BLOCKS // self.num_replicas)


class LoadedRouter:
    """A filled router, and requests for it.

    Args:
        size: how much it knows.
        prompt_blocks: the length of the requests that will be made.
        rng: for hashes, lengths and places.

    """

    def __init__(self, size: Size, *, prompt_blocks: int, rng: Random) -> None:
        self.size = size
        self.now = 0.0
        self._prompt_blocks = prompt_blocks
        self._rng = rng
        self._numbers = count()
        self._chosen: list[RoutingDecision] = []
        root = self._fresh_blocks(1)
        tenant_blocks = max(1, TENANT_PROMPT_TOKENS // size.block_size)
        self._tenants = [root + self._fresh_blocks(tenant_blocks) for _ in range(NUM_TENANTS)]
        self._replica_ids = [ReplicaId(f"replica-{rank}") for rank in range(size.num_replicas)]
        self.router = self._make_router()
        for replica_id in self._replica_ids:
            self._fill(replica_id)
        self._conversations = [self._remember_conversation() for _ in range(NUM_RETURNING)]

    def returning(self) -> RouteRequest:
        """The next turn of a conversation that one replica has cached: nine tenths of the prompt are old."""
        cached = self._rng.choice(self._conversations)
        return self._request(cached + self._fresh_blocks(self._prompt_blocks - len(cached)))

    def cold(self) -> RouteRequest:
        """A first turn: only the tenant's own prompt is known, and that nearly everywhere."""
        tenant = self._tenant()[: self._prompt_blocks]
        return self._request(tenant + self._fresh_blocks(self._prompt_blocks - len(tenant)))

    @property
    def num_cached_blocks(self) -> int:
        """Cached blocks over all replicas."""
        return sum(self.router.cluster.holders.num_blocks(replica_id) for replica_id in self._replica_ids)

    def choose(self, request: RouteRequest) -> None:
        """Make one decision, which counts as a request under way."""
        self._chosen.append(self.router.choose(request, now=self.now).decision)

    def prefill_chosen(self) -> None:
        """The engines report that they reused what was estimated."""
        for decision in self._chosen:
            self._prefill(decision.request_id, decision.num_prompt_tokens, decision.believed_cached_tokens)

    def go_by(self) -> None:
        """Time, until about now another request would come; one ends for each that came, a while after it.

        Without that, who was chosen last would look idle again at once, and have done more than any other replica.
        """
        self.now += self._prompt_blocks * self.size.block_size / (self.size.num_replicas * PREFILL_TOKENS_PER_S)
        while len(self._chosen) > self.size.num_replicas * REQUESTS_WAITING:
            decision = self._chosen.pop(0)
            self._prefill(decision.request_id, decision.num_prompt_tokens, decision.believed_cached_tokens)
            self.router.on_finished(decision.request_id, now=self.now)

    def finish_chosen(self) -> None:
        """The answers end, so that as much is under way as before."""
        for decision in self._chosen:
            self.router.on_finished(decision.request_id, now=self.now)
        self._chosen.clear()

    def _make_router(self) -> Router:
        """A router as production builds it."""
        routing, kv_tokens = RoutingSettings(), self.size.capacity_blocks * self.size.block_size
        policy = make_policy(routing.policy, Random(self._rng.random()))
        router = RouterSettings().make_router(
            policy=policy, block_size=self.size.block_size, engine_model=EngineModelSettings()
        )
        router.set_replicas(Replica(each, rank, kv_tokens) for rank, each in enumerate(self._replica_ids))
        return router

    def _fill(self, replica_id: ReplicaId) -> None:
        """A quarter more than fits, so that eviction has happened; the last requests stay under way."""
        requests = list(self._conversations_of(self.size.capacity_blocks * 5 // 4))
        for position, request in enumerate(requests, start=1 - len(requests)):
            self._book(request, replica_id)
            if position <= -REQUESTS_WAITING:
                self._prefill(request.request_id, request.num_prompt_tokens, 0)
            if position <= -REQUESTS_UNDER_WAY:
                self.router.on_finished(request.request_id, now=self.now)

    def _conversations_of(self, num_blocks: int) -> Iterator[RouteRequest]:
        left = num_blocks
        while left > 0:
            length = 1 + int(self._rng.expovariate(self.size.block_size / MEAN_CONVERSATION_TOKENS))
            yield self._request(self._tenant() + self._fresh_blocks(length))
            left -= length

    def _remember_conversation(self) -> tuple[BlockHash, ...]:
        tenant = self._tenant()
        cached = (tenant + self._fresh_blocks(self._prompt_blocks))[: self._prompt_blocks * 9 // 10]
        request = self._request(cached)
        self._book(request, self._rng.choice(self._replica_ids))
        self._prefill(request.request_id, request.num_prompt_tokens, 0)
        self.router.on_finished(request.request_id, now=self.now)
        return cached

    def _book(self, request: RouteRequest, replica_id: ReplicaId) -> None:
        reservation = Reservation(
            request, replica_id, num_held_blocks=0, is_computed=False, pending_tokens=request.num_prompt_tokens
        )
        self.now += STEP_S
        self.router.on_reserved(reservation, now=self.now)

    def _prefill(self, request_id: RequestId, prompt_tokens: int, cached_tokens: int) -> None:
        self.now += STEP_S
        self.router.on_prefilled(request_id, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, now=self.now)

    def _tenant(self) -> tuple[BlockHash, ...]:
        """A few tenants send most of the traffic."""
        return self._tenants[int(NUM_TENANTS * self._rng.random() ** 3)]

    def _request(self, blocks: tuple[BlockHash, ...]) -> RouteRequest:
        return RouteRequest(
            RequestId(f"request-{next(self._numbers)}"),
            model="",
            tenant="",
            num_prompt_tokens=len(blocks) * self.size.block_size + 1,
            block_hashes=blocks,
        )

    def _fresh_blocks(self, num_blocks: int) -> tuple[BlockHash, ...]:
        return tuple(BlockHash(self._rng.getrandbits(64)) for _ in range(num_blocks))
