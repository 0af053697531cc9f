"""The simulator's cache beside vLLM's own block pool, with several requests under way at a time; and a router that
hears the KV events of both.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from loadtests.replay.prefix_cache import CacheBlock, PrefixCache
from router import BlockHash, hash_blocks
from serve_app.messages.kv_updates import KvChange, KvRemoved, KvStored
from tests.builders import make_replica, make_router
from tests.loadtests.vllm_cache import VllmCache

BLOCK_SIZE = 2
MAX_UNDER_WAY = 3
MAX_TOKENS = 8
ROOT = BlockHash(1)
VLLMS, OURS = make_replica(0).replica_id, make_replica(1).replica_id


@dataclass
class UnderWay:
    """A request in both caches."""

    vllms: Any
    tokens: list[int]
    num_computed: int
    blocks: list[CacheBlock] = field(default_factory=list)

    @property
    def num_partial(self) -> int:
        """Blocks of it that are not full."""
        return -(-self.num_computed // BLOCK_SIZE) - self.num_computed // BLOCK_SIZE


class TwoCaches(RuleBasedStateMachine):
    """Everything happens to both."""

    @initialize(num_blocks=st.integers(MAX_UNDER_WAY * MAX_TOKENS // BLOCK_SIZE + 1, 20))
    def start(self, num_blocks: int) -> None:
        """Never so many requests that vLLM would have to wait for memory."""
        self.vllm = VllmCache(num_blocks=num_blocks, block_size=BLOCK_SIZE, is_telling=True)
        self.our_events: list[KvChange] = []
        self.ours = PrefixCache(capacity_blocks=num_blocks - 1, events=self.our_events)
        self.router = make_router(num_replicas=2)
        for replica_id in (VLLMS, OURS):
            self.router.on_blocks_cleared(replica_id)
        self.under_way: list[UnderWay] = []
        self.num_begun = 0
        self.vllms_to_our_hash: dict[bytes, BlockHash] = {}

    @precondition(lambda self: len(self.under_way) < MAX_UNDER_WAY)
    @rule(prompt=st.lists(st.integers(0, 1), min_size=1, max_size=MAX_TOKENS))
    def begin(self, prompt: list[int]) -> None:
        """Both reuse the same of a prompt."""
        self.num_begun += 1
        vllms = self.vllm.begin(str(self.num_begun), tuple(prompt))
        hashes = hash_blocks(prompt, block_size=BLOCK_SIZE, root=ROOT)
        num_reused = min(self.ours.num_cached(hashes), (len(prompt) - 1) // BLOCK_SIZE)
        assert vllms.num_computed_tokens - 1 == num_reused * BLOCK_SIZE
        request = UnderWay(vllms, prompt, num_reused * BLOCK_SIZE, self.ours.reuse(hashes[:num_reused]))
        self.under_way.append(request)
        self._compute(request, 1)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """Some more of a prompt, or a token of the answer."""
        request = data.draw(st.sampled_from(self.under_way))
        num_left = self.num_left(request, data.draw(st.integers(0, 1)))
        self.advance(request, data.draw(st.integers(min(1, num_left), num_left)))

    def num_left(self, request: UnderWay, next_token: int) -> int:
        """Tokens that can be computed: of the prompt or, after it, the answer's next one."""
        if request.num_computed == len(request.tokens) < MAX_TOKENS:
            request.tokens.append(next_token)
            request.vllms.append_output_token_ids(next_token)
        return len(request.tokens) - request.num_computed

    def advance(self, request: UnderWay, num_tokens: int) -> None:
        """Compute so many tokens of a request."""
        assert self.vllm.compute(request.vllms, num_tokens)
        self._compute(request, num_tokens)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """Also in the midst of the prompt."""
        self.finish(data.draw(st.sampled_from(self.under_way)))

    def finish(self, request: UnderWay) -> None:
        """A request is over."""
        self.under_way.remove(request)
        self.vllm.end(request.vllms)
        self._show_partial()
        self.ours.release(request.blocks)

    def _compute(self, request: UnderWay, num_tokens: int) -> None:
        request.num_computed += num_tokens
        hashes = hash_blocks(request.tokens[: request.num_computed], block_size=BLOCK_SIZE, root=ROOT)
        self.vllms_to_our_hash.update(zip(request.vllms.block_hashes, hashes, strict=False))
        self._show_partial()
        last = request.blocks[-1] if request.blocks else None
        request.blocks += self.ours.store(hashes[len(request.blocks) :], parent=last)

    def _show_partial(self) -> None:
        self.ours.set_partial_blocks(sum(request.num_partial for request in self.under_way))

    @invariant()
    def they_hold_the_same(self) -> None:
        """So whatever is asked next, both reuse the same of it."""
        if hasattr(self, "vllm"):
            held = {self.vllms_to_our_hash[block_hash] for block_hash in self.vllm.block_hashes()}
            assert held == self.ours.block_hashes()
            self._tell_router()
            self.router.check_integrity()
            for replica_id in (VLLMS, OURS):
                assert self.router.cluster.holders.is_exact(replica_id)
                assert self.router.cluster.holders.num_blocks(replica_id) == len(held)
            for request in self.under_way:
                hashes = hash_blocks(request.tokens, block_size=BLOCK_SIZE, root=ROOT)
                match = self.router.cluster.holders.match(hashes)
                assert match.blocks_at(VLLMS) == match.blocks_at(OURS) == self.ours.num_cached(hashes)

    def _tell_router(self) -> None:
        """What an adapter does."""
        from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash

        to_ours = {maybe_convert_block_hash(theirs): ours for theirs, ours in self.vllms_to_our_hash.items()}
        for event in self.vllm.take_events():
            block_hashes = [to_ours[each] for each in event.block_hashes]
            if hasattr(event, "parent_block_hash"):
                parent = event.parent_block_hash
                self.router.on_blocks_stored(VLLMS, None if parent is None else to_ours[parent], block_hashes)
            else:
                self.router.on_blocks_removed(VLLMS, block_hashes)
        for each in self.our_events:
            match each:
                case KvStored():
                    self.router.on_blocks_stored(OURS, each.parent, each.block_hashes)
                case KvRemoved():
                    self.router.on_blocks_removed(OURS, each.block_hashes)
        self.our_events.clear()


@pytest.mark.usefixtures("vllm")
def test_the_simulators_cache_is_vllms() -> None:
    """Whatever requests do at a time: the same is reused, the same is held, and a router that hears of it knows."""
    run_state_machine_as_test(TwoCaches, settings=settings(max_examples=60, stateful_step_count=40))


@pytest.mark.usefixtures("vllm")
def test_a_router_follows_vllms_events_through_many_evictions() -> None:
    """The same at length, in so little memory that every request evicts, and blocks are computed twice at a time."""
    rng, caches = Random(1), TwoCaches()
    caches.start(MAX_UNDER_WAY * MAX_TOKENS // BLOCK_SIZE + 1)
    for _ in range(800):
        if len(caches.under_way) < MAX_UNDER_WAY:
            caches.begin([rng.randrange(2) for _ in range(rng.randint(1, MAX_TOKENS))])
        request = rng.choice(caches.under_way)
        num_left = caches.num_left(request, rng.randrange(2))
        if num_left and rng.random() < 0.8:
            caches.advance(request, rng.randint(1, num_left))
        else:
            caches.finish(request)
        caches.they_hold_the_same()
