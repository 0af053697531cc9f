"""Builds routers' snapshots: idle and well, but for what is given."""

from typing import Any

from serve_app.messages.snapshot import EngineSnapshot, ReaderSnapshot, ReplicaSnapshot, RouterSnapshot, Totals


def engine(
    *, prompt: int = 0, cached: int = 0, waiting: int | None = 0, running: int = 0, **fields: Any
) -> EngineSnapshot:
    """An engine that looked up exactly the prompts that it counted."""
    return EngineSnapshot(
        waiting=waiting,
        running=running,
        **{
            "kv_use": 0.0,
            "prompt_tokens": prompt,
            "cached_tokens": cached,
            "looked_up_tokens": prompt,
            "hit_tokens": cached,
            **fields,
        },
    )


def replica(rank: int = 0, **fields: Any) -> ReplicaSnapshot:
    """A replica that no router knows a fault of."""
    return ReplicaSnapshot(
        rank=rank,
        **{
            "ring_share": 0.5,
            "kv_capacity_tokens": 1600,
            "pending_tokens": 0,
            "waiting": 0,
            "running": 0,
            "recent_tokens": 0,
            "believed_blocks": 0,
            "knowledge": "receipts",
            "heard_s_ago": 0.1,
            "excluded": None,
            "parity": "ok",
            "tokenizer": "fastokens",
            "engine": None,
            **fields,
        },
    )


def router(name: str, replicas: dict[str, ReplicaSnapshot] | None = None, **fields: Any) -> RouterSnapshot:
    """A router that has placed nothing yet."""
    return RouterSnapshot(
        router=name,
        replicas=replicas or {},
        **{
            "policy": "prefix_affinity",
            "model": "demo",
            "engine": "vllm",
            "decisions": {},
            "unreadable": {},
            "shadows": {},
            "prompts": ReaderSnapshot(tokenizer="fastokens"),
            "totals": Totals(),
            "reservations_dropped": 0,
            "refused": {},
            "kv_events_lost": 0,
            "tasks": 1,
            "block_size": 16,
            "remembered": 0,
            **fields,
        },
    )
