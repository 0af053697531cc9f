"""Records of requests that never ran."""

from loadtests.replay.results import RequestRecord
from router import ReplicaId, RequestId


def make_record(arrival_s: float, replica: int, *, prompt_tokens: int = 100, cached_tokens: int = 0) -> RequestRecord:
    """A request at a time, and who served it."""
    return RequestRecord(
        RequestId(f"request-{arrival_s}"), arrival_s, ReplicaId(f"replica-{replica}"), 0.5, prompt_tokens, cached_tokens
    )
