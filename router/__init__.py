"""The routing core: which replica most likely holds a request's prefix, and what would waiting there cost.

Rules of this package: standard library and xxhash only. No I/O, no clock, no Ray, no asyncio.
Time and randomness are passed in; one event loop owns a `Router`, so nothing here locks.
"""

from router.block_hasher import BlockHasher
from router.blocks import cacheable_tokens, hash_blocks, hash_tokens, root_hash
from router.engine_model import EngineModel
from router.errors import NoReplicasError, RouterError, UnknownPolicyError
from router.funnel import CacheRecord, Funnel, Loss
from router.health import Exclusion
from router.hot_prefixes import HotPrefix
from router.router import Routed, Router, RouterOptions
from router.sessions import session_key
from router.shadow import Shadow
from router.shadow_totals import ShadowTotals
from router.state import BookedRequest, HeldRun, ReplicaState
from router.tiers import HOST_TOKENS_PER_S, CachedTokens
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
    "RouteRequest",
    "Routed",
    "Router",
    "RouterError",
    "RouterOptions",
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
