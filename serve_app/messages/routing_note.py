"""The note that a router attaches to a request for its replica, as one HTTP request header.

HAProxy strips client headers with this prefix, and a replica that is reached past HAProxy knows a note by its
signature. It must stay plain: HAProxy reads the answer with a Lua pattern that knows neither escapes nor nesting.
"""

import hmac
from dataclasses import dataclass
from typing import Self

from router import ReplicaId, RequestId

NOTE_HEADER = "x-serve-router-warmroute"
NO_REPLICAS = "no_replicas"
"""A note's reason: no replica is ready, so Serve's fallback proxy places the request."""
ROUTING_ERROR = "routing_error"
"""A note's reason: a fault of ours, so Serve's fallback proxy places the request."""

SIGNATURE_BYTES = 16
_SEPARATOR = ";"
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class RoutingNote:
    """What the router knew. Token counts are None when the prompt could not be tokenised."""

    request_id: RequestId
    replica_id: ReplicaId
    policy: str
    reason: str
    prompt_tokens: int | None
    believed_cached_tokens: int | None
    num_sequences: int = 1
    """Number of the engine's sequences for the request: one for each answer to each prompt."""

    @property
    def uncached_tokens(self) -> int:
        """Tokens of the prompt that are to be computed; 0 where that is not known."""
        return max(0, (self.prompt_tokens or 0) - (self.believed_cached_tokens or 0))

    def encode(self, key: bytes) -> str:
        """The header's value, signed with the cluster's key for notes."""
        counts = (self.prompt_tokens, self.believed_cached_tokens)
        fields = _SEPARATOR.join(
            (
                self.request_id,
                self.replica_id,
                self.policy,
                self.reason,
                *(_UNKNOWN if count is None else str(count) for count in counts),
                str(self.num_sequences),
            )
        )
        return signed(fields, key)

    @classmethod
    def decode(cls, value: str, key: bytes) -> Self:
        """Read a header's value.

        Raises:
            ValueError: another version of the router wrote it, or no router of this cluster.

        """
        fields, _, _ = value.rpartition(_SEPARATOR)
        if not hmac.compare_digest(value.encode(), signed(fields, key).encode()):
            raise ValueError("the note's signature is wrong")
        # Later versions may append fields; what they do not append, they must not change.
        request_id, replica_id, policy, reason, prompt_tokens, cached_tokens, num_sequences, *_ = fields.split(
            _SEPARATOR
        )
        return cls(
            RequestId(request_id),
            ReplicaId(replica_id),
            policy,
            reason,
            None if prompt_tokens == _UNKNOWN else int(prompt_tokens),
            None if cached_tokens == _UNKNOWN else int(cached_tokens),
            int(num_sequences),
        )


def signed(fields: str, key: bytes) -> str:
    """A note's fields, followed by a signature that only holders of the key can write."""
    return f"{fields}{_SEPARATOR}{hmac.digest(key, fields.encode(), 'sha256')[:SIGNATURE_BYTES].hex()}"
