"""What became of some prompts: where their tokens went, and when their first tokens came."""

from dataclasses import dataclass, field

from router import CacheRecord, Funnel
from serve_app.messages.ttft import Ttft, is_warm


@dataclass(slots=True)
class PromptTotals:
    """The totals of one replica's prompts, or of one tenant's. Totals add up."""

    funnel: Funnel = field(default_factory=Funnel)
    ttft: Ttft = field(default_factory=Ttft)

    def add(self, record: CacheRecord, ttft_s: float | None) -> None:
        """Count one more prompt; its time is None if another prompt of the same request had the first token."""
        self.funnel.add(record)
        if ttft_s is not None:
            self.ttft.add(ttft_s, is_warm=is_warm(record))

    def merge(self, other: "PromptTotals") -> None:
        """Add the prompts of other totals."""
        self.funnel.merge(other.funnel)
        self.ttft.merge(other.ttft)
