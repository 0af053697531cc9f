"""A sample of routed requests whose token ids router and replica compare, by a hash.

Both tell from the request's id alone whether it is in the sample, so neither has to ask the other.
"""

from collections import OrderedDict
from collections.abc import Sequence

from router import RequestId, TokenHash, hash_tokens

SAMPLED_DIGIT = "0"
"""Last digit of the ids of sampled requests: ids end in a random hexadecimal digit, so these are 1 in 16."""
MAX_KEPT = 4096
"""Requests kept until their first token at most; those that never get one stay until others push them out."""


def is_sampled(request_id: RequestId) -> bool:
    """Whether this request is compared."""
    return request_id.endswith(SAMPLED_DIGIT)


class KeySamples:
    """A router's side: what it keyed, until the replica says what it got."""

    def __init__(self) -> None:
        self._request_to_hash: OrderedDict[RequestId, TokenHash] = OrderedDict()

    def keep(self, request_id: RequestId, token_ids: Sequence[int]) -> None:
        """Keep the hash of the ids by which a prompt was keyed, if its request is sampled."""
        if not is_sampled(request_id):
            return
        self._request_to_hash[request_id] = hash_tokens(token_ids)
        if len(self._request_to_hash) > MAX_KEPT:
            self._request_to_hash.popitem(last=False)

    def agrees(self, request_id: RequestId, token_hash: TokenHash) -> bool | None:
        """Whether the replica got the same ids, told once; None for a request that was not keyed here."""
        keyed = self._request_to_hash.pop(request_id, None)
        return None if keyed is None else keyed == token_hash

    def __len__(self) -> int:
        return len(self._request_to_hash)
