"""The routing core: the replica that most likely has a request's prefix cached, and the cost of waiting there.

Rules of this package: it imports the standard library and xxhash only, and has no I/O, no clock, no Ray and no asyncio.
Time and randomness are passed in. One event loop owns a `Router`, so there are no locks.
"""

from router.belief.hot_prefixes import HotPrefix
from router.belief.tiers import HOST_TOKENS_PER_S, CachedTokens
from router.errors import NoReplicasError, RouterError, UnknownPolicyError
from router.keys.block_hasher import BlockHasher
from router.keys.blocks import cacheable_tokens, hash_blocks, hash_tokens, root_hash
from router.keys.sessions import session_key
from router.load.engine_model import EngineModel
from router.load.health import Exclusion, Health
from router.load.reservations import Reservations
from router.outcomes.funnel import CacheRecord, Funnel, Loss
from router.outcomes.shadow import Shadow
from router.outcomes.shadow_totals import ShadowTotals
from router.router import Routed, Router
from router.state import BookedRequest, HeldRun, ReplicaState
from router.types import (
    BlockHash,
    EngineLoad,
    Reason,
    Replica,
    ReplicaId,
    RequestId,
    Reservation,
    RouteRequest,
    RoutingDecision,
    SessionKey,
    ShadowChoice,
    ShadowFault,
    TokenHash,
)

__all__ = [
    "HOST_TOKENS_PER_S",
    "BlockHash",
    "BlockHasher",
    "BookedRequest",
    "CacheRecord",
    "CachedTokens",
    "EngineLoad",
    "EngineModel",
    "Exclusion",
    "Funnel",
    "Health",
    "HeldRun",
    "HotPrefix",
    "Loss",
    "NoReplicasError",
    "Reason",
    "Replica",
    "ReplicaId",
    "ReplicaState",
    "RequestId",
    "Reservation",
    "Reservations",
    "RouteRequest",
    "Routed",
    "Router",
    "RouterError",
    "RoutingDecision",
    "SessionKey",
    "Shadow",
    "ShadowChoice",
    "ShadowFault",
    "ShadowTotals",
    "TokenHash",
    "UnknownPolicyError",
    "cacheable_tokens",
    "hash_blocks",
    "hash_tokens",
    "root_hash",
    "session_key",
]
