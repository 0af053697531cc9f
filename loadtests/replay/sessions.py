"""Which request continues which, where the trace does not say: derived from the prompts' blocks alone.

A request continues an earlier one if that one's last whole block, deeper than what many users share, is among its
own leading blocks. A lower bound of the real turns: what was said within one block cannot be linked. Requests that
branch from one another are linked as well, each with the one from which it branches.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile

from router import BlockHash

Blocks = Sequence[BlockHash]
COMMON_SHARE = 0.05
"""A first block that at least this share of all requests has belongs to no one: it is a system prompt."""


def predecessors(prompts: Sequence[Blocks]) -> Iterator[int | None]:
    """For each prompt in order of arrival, the position of the latest of the deepest ones that it continues."""
    root_to_depth = _common_depths(prompts)
    last_block_to_position: dict[BlockHash, int] = {}
    for position, blocks in enumerate(prompts):
        own = blocks[root_to_depth.get(blocks[0], 0) :] if blocks else ()
        yield next((last_block_to_position[each] for each in reversed(own) if each in last_block_to_position), None)
        if own:
            last_block_to_position[own[-1]] = position


def _common_depths(prompts: Sequence[Blocks]) -> dict[BlockHash, int]:
    """For each first block that many prompts have, how many leading blocks all of those have in common."""
    root_to_prompts: dict[BlockHash, list[Blocks]] = defaultdict(list)
    for blocks in prompts:
        if blocks:
            root_to_prompts[blocks[0]].append(blocks)
    return {
        root: _common_depth(together)
        for root, together in root_to_prompts.items()
        if len(together) > 1 and len(together) >= COMMON_SHARE * len(prompts)
    }


def _common_depth(prompts: Sequence[Blocks]) -> int:
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*prompts, strict=False)))
