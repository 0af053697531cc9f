"""What each engine says that it reuses of its prompts, lately: all there is to go by where keys cannot be trusted."""

from router.types import ReplicaId

FORGET = 0.95
"""What earlier receipts count with each new one: the share is that of the last twenty or so."""


class Reuse:
    """Of each replica's prompts, the share that its engine took from its cache."""

    def __init__(self) -> None:
        self._replica_to_tokens: dict[ReplicaId, tuple[float, float]] = {}  # of prompts, and of these cached

    def learn(self, replica_id: ReplicaId, *, prompt_tokens: int, cached_tokens: int) -> None:
        """An engine had a prompt, and reused so much of it."""
        prompts, cached = self._replica_to_tokens.get(replica_id, (0.0, 0.0))
        self._replica_to_tokens[replica_id] = (FORGET * prompts + prompt_tokens, FORGET * cached + cached_tokens)

    def share(self, replica_id: ReplicaId) -> float:
        """Of its next prompt, how much to expect cached, 0 to 1; 0 of one that has said nothing."""
        prompts, cached = self._replica_to_tokens.get(replica_id, (0.0, 0.0))
        return min(1.0, cached / prompts) if prompts else 0.0

    def forget(self, replica_id: ReplicaId) -> None:
        """The replica is gone."""
        self._replica_to_tokens.pop(replica_id, None)
