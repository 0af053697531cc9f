"""What a replica tells the routers, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.replay.kv_events import KvEventBatch
from router import EngineLoad, ReplicaId, RequestId


@dataclass(frozen=True, slots=True)
class Arrived:
    """The request is here."""

    request_id: RequestId


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The request's first token, with the engine's own numbers."""

    request_id: RequestId
    prompt_tokens: int
    cached_tokens: int
    external_cached_tokens: int = 0
    """Of these, those that came back from the second tier."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The request is over."""

    request_id: RequestId
    answer_tokens: int | None = None
    """That were generated for it; None if it broke off."""


Receipt = Arrived | Prefilled | Finished


@dataclass(frozen=True, slots=True)
class Batch:
    """What one replica says at a time."""

    replica_id: ReplicaId
    number: int
    """Counts the replica's batches, so that one that was overtaken is recognised."""
    receipts: tuple[Receipt, ...] = ()
    outstanding: Mapping[RequestId, int] | None = None
    """In a heartbeat: every request that is here, with its prompt tokens that had a first output."""
    engine: EngineLoad | None = None
    """In a heartbeat: the engine's own numbers."""
    kv_events: KvEventBatch | None = None
