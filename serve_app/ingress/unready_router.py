"""The router of a process that knows no replica yet: it has an answer to everything, and knows nothing."""

from collections.abc import Iterable, Sequence
from typing import Final

from router import BlockHash, NoReplicasError, Replica, ReplicaId, ReplicaState
from serve_app.messages.receipts import BatchAnswer
from serve_app.messages.routing_note import RoutingNote
from serve_app.messages.snapshot import HotPrefix, ReplicaSnapshot
from serve_app.parity.verdicts import Read, Verdict
from serve_app.prompt.incoming import Incoming
from serve_app.settings.schema import RoutingSettings


class UnreadyRouter:
    """See `serve_app.ingress.ready_router.ReadyRouter`, which takes its place with the first replica."""

    block_size: Final = None
    replicas: Sequence[Replica] = ()
    num_remembered: Final = 0

    def apply(self, routing: RoutingSettings) -> None:
        """The adapter keeps them for the first ready router."""

    def place(self, _incoming: Incoming) -> RoutingNote:
        """Refuse: no replica runs."""
        raise NoReplicasError

    def on_receipts(self, _payload: bytes) -> BatchAnswer:
        """Leave open whether the replica is one of ours."""
        return BatchAnswer.UNDECIDED

    def on_reservations(self, payload: bytes) -> None:
        """No replica is known that they could be for."""

    def on_states(self, payloads: Iterable[bytes]) -> None:
        """No replica is known that it could be about."""

    def on_verdict(self, replica_id: ReplicaId, verdict: Verdict) -> None:
        """No replica is known that it could be about."""

    def on_caches_reset(self) -> None:
        """Nothing is known of any cache."""

    def export(self, _replica_id: ReplicaId) -> list[ReplicaState]:
        """Nothing is known of any replica."""
        return []

    def prefixes_for(self, _rank: int) -> list[BlockHash]:
        """No prompt was seen."""
        return []

    def places_of(self, _prompts: Sequence[tuple[BlockHash, ...]]) -> list[ReplicaId]:
        """No replica is known."""
        return []

    async def judge_self_tests(self, read: Read) -> None:
        """No replica is known."""

    def hot_prefixes(self, _limit: int) -> list[HotPrefix]:
        """No prompt was seen."""
        return []

    def replica_snapshots(self) -> dict[str, ReplicaSnapshot]:
        """No replica is known."""
        return {}

    def show_replicas(self) -> None:
        """No replica is known."""
