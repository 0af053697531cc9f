"""vLLM's own KV cache manager, without a model: what it does is the truth that the simulator is held against."""

from typing import Any

from benchmarks.live.cache_parity.questions import Answered, PromptQuestion


class VllmCache:
    """The memory of one engine; requests get into it, compute, and leave, in whatever order.

    Args:
        num_blocks: with vLLM's null block.
        block_size: in tokens.
        is_telling: whether it keeps KV events, to be taken.

    """

    def __init__(self, *, num_blocks: int, block_size: int, is_telling: bool = False) -> None:
        import torch
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_manager import KVCacheManager
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(block_size, sha256)
        attention = FullAttentionSpec(block_size, num_kv_heads=1, head_size=1, dtype=torch.float32)
        self._manager = KVCacheManager(
            KVCacheConfig(num_blocks, [], [KVCacheGroupSpec(["layer"], attention)]),
            max_model_len=num_blocks * block_size,
            scheduler_block_size=block_size,
            hash_block_size=block_size,
            enable_kv_cache_events=is_telling,
        )

    def begin(self, name: str, prompt: tuple[int, ...]) -> Any:
        """A request that was looked up, of which nothing is computed; its `num_computed_tokens` are the reused ones."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        request = Request(name, list(prompt), SamplingParams(), None, block_hasher=self._hasher)
        blocks, cached_tokens, _ = self._manager.get_computed_blocks(request)
        assert self._manager.allocate_slots(request, 1, cached_tokens, blocks) is not None
        request.num_computed_tokens = cached_tokens + 1
        return request

    def compute(self, request: Any, num_tokens: int) -> bool:
        """Further tokens of a request; False where there is no memory for them."""
        if num_tokens and self._manager.allocate_slots(request, num_tokens) is None:
            return False
        request.num_computed_tokens += num_tokens
        return True

    def end(self, request: Any) -> None:
        """The request is over."""
        self._manager.free(request)

    def block_hashes(self) -> set[bytes]:
        """All that can be reused, without vLLM's number of their group of layers."""
        from vllm.v1.core.kv_cache_utils import get_block_hash

        return {get_block_hash(key) for key in self._manager.block_pool.cached_block_hash_to_block._cache}

    def take_events(self) -> list[Any]:
        """Its KV events since the last time."""
        return self._manager.take_events()

    def ask(self, question: PromptQuestion, answer: tuple[int, ...]) -> Answered:
        """A whole request while nothing else is served."""
        request = self.begin("alone", question.prompt)
        cached_tokens = request.num_computed_tokens - 1
        assert self.compute(request, request.num_tokens - request.num_computed_tokens)
        for token in answer[:-1]:
            request.append_output_token_ids(token)
            assert self.compute(request, 1)
        self.end(request)
        return Answered(question, answer, cached_tokens)
