"""A trace in which no request shares anything with another: what no router can help with."""

import json
from itertools import count
from pathlib import Path

from loadtests.replay.trace import read_trace


def write_unshared(trace: Path, path: Path) -> None:
    """The same arrivals and lengths as a Mooncake trace has, and blocks that come once each.

    Raises:
        TraceError: the trace cannot be used.

    """
    block_ids = count()
    block_size = read_trace(trace).kind.block_size
    with path.open("w", encoding="utf-8") as lines:
        for request in read_trace(trace).requests:
            num_blocks = -(-request.num_prompt_tokens // block_size)
            row = {
                "timestamp": round(request.arrival_s * 1000),
                "input_length": request.num_prompt_tokens,
                "output_length": request.num_output_tokens,
                "hash_ids": [next(block_ids) for _ in range(num_blocks)],
            }
            lines.write(json.dumps(row) + "\n")
