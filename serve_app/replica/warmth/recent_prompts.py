"""Token ids of the prompts that a replica served last, for it to give to others. In memory only, never logged."""

import math
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from router import BlockHash, BlockHasher, root_hash


class KeptPrompt(NamedTuple):
    """A prompt's full blocks."""

    token_ids: "array[int]"
    block_hashes: tuple[BlockHash, ...]
    used_s: float
    """Time at which it was served last, here or elsewhere."""


class RecentPrompts:
    """The last prompts, as many as a KV cache has room for; the least recently served are dropped first.

    Of a conversation there is one, its last: a prompt takes the place of those that it begins with.

    Args:
        model: the model's name in keys.
        block_size: the size of a block, in tokens.
        max_tokens: tokens of all prompts together at most.
        clock: seconds, monotonic.

    """

    def __init__(self, *, model: str, block_size: int, max_tokens: int, clock: Callable[[], float]) -> None:
        self._root = root_hash(model=model, adapter="", tenant="", cache_salt="")
        self._block_size = block_size
        self._hasher = BlockHasher(block_size=block_size)
        self._max_tokens = max_tokens
        self._clock = clock
        self._last_to_prompt: OrderedDict[BlockHash, KeptPrompt] = OrderedDict()
        self.num_tokens = 0

    def add(self, token_ids: Sequence[int], *, used_s: float | None = None) -> KeptPrompt | None:
        """A prompt that was served, now or at that time; what is kept of it, if it fills a block.

        Not a prompt with a salt, an adapter or media: no other client can use it.
        """
        hashes = self._hasher.hash(token_ids, root=self._root)
        if not hashes:
            return None
        # What it begins with was perhaps served after it.
        times_s = [self._clock() if used_s is None else used_s, *map(self._forget, hashes)]
        ids = array("I", token_ids[: len(hashes) * self._block_size])
        prompt = KeptPrompt(ids, hashes, max(times_s))
        self._keep(prompt, is_newest=used_s is None)
        return prompt

    def newest_first(self) -> Iterator[KeptPrompt]:
        """All prompts, the last served first."""
        return reversed(self._last_to_prompt.values())

    def find(self, block_hashes: Collection[BlockHash]) -> dict[BlockHash, KeptPrompt]:
        """The prompts up to each of these blocks, as far as a prompt here has it."""
        wanted, found = set(block_hashes), dict[BlockHash, KeptPrompt]()
        for prompt in self.newest_first():
            for block_hash in wanted.intersection(prompt.block_hashes):
                end = prompt.block_hashes.index(block_hash) + 1
                ids = prompt.token_ids[: end * self._block_size]
                found[block_hash] = KeptPrompt(ids, prompt.block_hashes[:end], prompt.used_s)
            wanted -= found.keys()
            if not wanted:
                break
        return found

    def clear(self) -> None:
        """The cache was emptied on purpose."""
        self._last_to_prompt.clear()
        self.num_tokens = 0

    def _keep(self, prompt: KeptPrompt, *, is_newest: bool) -> None:
        self._last_to_prompt[prompt.block_hashes[-1]] = prompt
        if not is_newest:
            in_order = sorted(self._last_to_prompt.items(), key=lambda item: item[1].used_s)
            self._last_to_prompt = OrderedDict(in_order)
        self.num_tokens += len(prompt.token_ids)
        while self.num_tokens > self._max_tokens:
            _, oldest = self._last_to_prompt.popitem(last=False)
            self.num_tokens -= len(oldest.token_ids)

    def _forget(self, last: BlockHash) -> float:
        """Drop the prompt; the time at which it was served last, long ago if it is not here."""
        prompt = self._last_to_prompt.pop(last, None)
        if prompt is None:
            return -math.inf
        self.num_tokens -= len(prompt.token_ids)
        return prompt.used_s
