"""The share of prompts that each engine reused lately: the only information where keys cannot be trusted."""

from router.types import ReplicaId

FORGET = 0.95
"""Weight of all earlier receipts with each new one: the share is that of the last twenty or so."""


class Reuse:
    """Prompt tokens of each replica, and those of them that its engine took from its cache."""

    def __init__(self) -> None:
        self._replica_to_tokens: dict[ReplicaId, tuple[float, float]] = {}  # prompt tokens, and the cached ones

    def learn(self, replica_id: ReplicaId, *, prompt_tokens: int, cached_tokens: int) -> None:
        """Count a prompt, and the tokens that the engine reused."""
        prompts, cached = self._replica_to_tokens.get(replica_id, (0.0, 0.0))
        self._replica_to_tokens[replica_id] = (FORGET * prompts + prompt_tokens, FORGET * cached + cached_tokens)

    def share(self, replica_id: ReplicaId) -> float:
        """Share of the next prompt that is expected to be cached, 0 to 1; 0 before the first receipt."""
        prompts, cached = self._replica_to_tokens.get(replica_id, (0.0, 0.0))
        return min(1.0, cached / prompts) if prompts else 0.0

    def forget(self, replica_id: ReplicaId) -> None:
        """Forget a replica."""
        self._replica_to_tokens.pop(replica_id, None)
