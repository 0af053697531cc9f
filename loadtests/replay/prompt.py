"""A request inside the replay's engine."""

from dataclasses import dataclass, field

from loadtests.replay.prefix_cache import CacheBlock
from loadtests.replay.trace import TraceRequest
from router import BlockHash, RequestId


@dataclass(slots=True, eq=False)
class EnginePrompt:
    """It waits, is computed in chunks, is decoded, and may be preempted and wait again."""

    request_id: RequestId
    request: TraceRequest
    block_hashes: tuple[BlockHash, ...]
    """The prompt's hashes, and the answer's where they are known."""
    num_generated: int = 0
    """Tokens of the answer that there were when it was last preempted: they have become a part of the prompt."""
    cached_tokens: int = 0
    """Tokens that were cached when it was started for the first time."""
    external_tokens: int = 0
    """Tokens among them that came back from the host."""
    computed_tokens: int = 0
    """Tokens that are computed, reused ones included."""
    is_started: bool = False
    is_preempted: bool = False
    """Whether it was preempted at some time."""
    blocks: list[CacheBlock] = field(default_factory=list)
    """The blocks that are full."""

    @property
    def last_block(self) -> CacheBlock | None:
        """The last full block; None before one is full."""
        return self.blocks[-1] if self.blocks else None

    @property
    def num_tokens(self) -> int:
        """Tokens to be computed before the next token of the answer."""
        return self.request.num_prompt_tokens + self.num_generated

    @property
    def tokens_left(self) -> int:
        """Tokens among them that are not computed yet."""
        return self.num_tokens - self.computed_tokens

    @property
    def final_tokens(self) -> int:
        """Tokens in the KV cache at the end: the answer's last token is never computed."""
        return self.request.num_prompt_tokens + self.request.num_output_tokens - 1
