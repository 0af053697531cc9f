"""Small trace files."""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_conversations(path: Path, *, num_conversations: int = 12, num_turns: int = 4) -> Path:
    """Mooncake's format: conversations with one block in common; a turn has two blocks more than the one before."""
    rng = Random(1)
    rows = []
    for conversation in range(num_conversations):
        for turn in range(num_turns):
            num_blocks = 2 + 2 * turn
            own = range(100 * conversation + 1, 100 * conversation + num_blocks)
            rows.append(
                {
                    "timestamp": 3000 * (conversation + 4 * turn),
                    "input_length": 512 * num_blocks + 1,
                    "output_length": rng.randint(1, 50),
                    "hash_ids": [0, *own, 10**6],
                }
            )
    return write_rows(path, rows)


def write_sessions(path: Path, *, num_sessions: int = 6, num_turns: int = 3) -> Path:
    """Sessions without times, with four blocks in common; a turn has two blocks more than the one before."""
    rows = []
    for session in range(num_sessions):
        for turn in range(num_turns):
            own = range(1000 * (session + 1), 1000 * (session + 1) + 2 * turn + 2)
            blocks = [1, 2, 3, 4, *own, 10**6]
            rows.append(
                {
                    "timestamp": None,
                    "session_id": f"s{session}",
                    "turn": turn + 1,
                    "input_length": 16 * (len(blocks) - 1) + 1,
                    "output_length": 5,
                    "hash_ids": blocks,
                }
            )
    return write_rows(path, rows)
