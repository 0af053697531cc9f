"""Prompt tokens to chained block hashes.

A block is a run of `block_size` tokens. Only full blocks are hashed, because only full blocks are cached by the engine.
Each hash is seeded with its parent's, so equal hashes mean equal prefixes.
"""

from array import array
from collections.abc import Sequence

import xxhash

from router.types import BlockHash, RequestId, TokenHash

_TOKEN_BYTES = array("I").itemsize


def root_hash(*, model: str, adapter: str, tenant: str, cache_salt: str) -> BlockHash:
    """Parent of every first block: prompts that may not share a cache get different roots.

    Fields are length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = xxhash.xxh3_64()
    for field in (model, adapter, tenant, cache_salt):
        encoded = field.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return BlockHash(digest.intdigest())


def hash_blocks(token_ids: Sequence[int], *, block_size: int, root: BlockHash) -> tuple[BlockHash, ...]:
    """Hashes of the full blocks of `token_ids`, first to last.

    The chain passes the parent as xxh3's seed, so a block costs one call and no concatenation.

    Raises:
        OverflowError: a token id is negative or does not fit in 32 bits.

    """
    tokens = memoryview(array("I", token_ids)).cast("B")
    step = block_size * _TOKEN_BYTES
    hash_block = xxhash.xxh3_64_intdigest
    hashes: list[int] = []
    parent: int = root
    for start in range(0, len(tokens) - step + 1, step):
        parent = hash_block(tokens[start : start + step], parent)
        hashes.append(parent)
    return tuple(hashes)  # type: ignore[arg-type]  # BlockHash is an int at run time


def unknown_hashes(request_id: RequestId, num_blocks: int) -> Sequence[BlockHash]:
    """Hashes for blocks of which only the number is known, such as an answer's; almost certainly, no other block has
    them.

    They are consecutive numbers from a hash on, which need no memory until they are stored.
    """
    if num_blocks <= 0:
        return ()
    first = xxhash.xxh3_64_intdigest(request_id.encode()) % (2**64 - num_blocks)
    return range(first, first + num_blocks)  # type: ignore[return-value]  # BlockHash is an int at run time


def hash_tokens(token_ids: Sequence[int]) -> TokenHash:
    """Hash of a whole prompt, whatever the block size, model and salt: equal hashes mean equal token ids.

    Raises:
        OverflowError: a token id is negative or does not fit in 32 bits.

    """
    return TokenHash(xxhash.xxh3_64_intdigest(array("I", token_ids)))


def cacheable_tokens(num_prompt_tokens: int, *, num_blocks: int, block_size: int) -> int:
    """Tokens that an engine need not compute if it has `num_blocks` leading blocks cached.

    vLLM always computes a prompt's last token (it needs its logits), so the last block of a prompt
    that ends on a block's border is never reused (`KVCacheManager.get_computed_blocks`).
    """
    reusable_blocks = max(num_prompt_tokens - 1, 0) // block_size
    return min(num_blocks, reusable_blocks) * block_size
