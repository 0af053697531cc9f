"""Builds routers' snapshots."""

from typing import Any


def engine(
    *, prompt: int = 0, cached: int = 0, waiting: int | None = 0, running: int = 0, **uncounted: int
) -> dict[str, Any]:
    """An engine's entry; what was not counted was not looked up either."""
    return {
        "waiting": waiting,
        "running": running,
        "kv_use": 0.0,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "looked_up_tokens": prompt,
        "hit_tokens": cached,
        "uncounted_tokens": uncounted,
        "own_tokens": 0,
        "left_tokens": 0,
    }


def replica(rank: int = 0, **fields: Any) -> dict[str, Any]:
    """A replica's entry; idle."""
    return {
        "rank": rank,
        "kv_capacity_tokens": 1000,
        "pending_tokens": 0,
        "waiting": 0,
        "running": 0,
        "recent_tokens": 0,
        "believed_blocks": 0,
        "heard_s_ago": 0.1,
        "excluded": None,
        "engine": None,
        **fields,
    }


def router(name: str, replicas: dict[str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A router's snapshot."""
    return {
        "router": name,
        "policy": "prefix_affinity",
        "block_size": 32,
        "decisions": {},
        "unreadable": {},
        "reservations_dropped": 0,
        "refused": {},
        "accounts": {"rank": {}},
        "replicas": replicas,
        **fields,
    }
