"""What a replica says of its work, as numbers that Serve carries to its controller."""

from dataclasses import dataclass

ARRIVED_TOKENS = "warmroute_arrived_tokens"
WAITING_TOKENS = "warmroute_waiting_tokens"
KV_USE = "warmroute_kv_use"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkStats:
    """A replica's work at one moment."""

    arrived_tokens: int
    """Uncached prompt tokens that came since the start, whether they are computed, wait, or were refused. What waits is
    the routers' belief, which the engine's own number replaces: a wrong belief is corrected, and the count may fall."""
    waiting_tokens: int
    """Number of these tokens that are not computed yet."""
    kv_use: float | None
    """Share of the KV cache's blocks in use by running requests, 0 to 1; None where the engine does not say."""

    def as_metrics(self) -> dict[str, float]:
        """The figures by name, without what is unknown."""
        metrics: dict[str, float] = {ARRIVED_TOKENS: self.arrived_tokens, WAITING_TOKENS: self.waiting_tokens}
        if self.kv_use is not None:
            metrics[KV_USE] = self.kv_use
        return metrics
