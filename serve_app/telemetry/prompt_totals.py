"""What became of some prompts: where their tokens went, and when their first tokens came."""

from dataclasses import dataclass, field
from typing import Any

from router import CacheRecord, Funnel
from serve_app.telemetry.funnel_report import as_snapshot
from serve_app.telemetry.ttft import Ttft, is_warm


@dataclass(slots=True)
class Account:
    """Of one replica's prompts, or one tenant's."""

    funnel: Funnel = field(default_factory=Funnel)
    ttft: Ttft = field(default_factory=Ttft)

    def add(self, record: CacheRecord, ttft_s: float | None) -> None:
        """One prompt more; its time is None if another of the same request had the first token."""
        self.funnel.add(record)
        if ttft_s is not None:
            self.ttft.add(ttft_s, is_warm=is_warm(record))

    def as_snapshot(self) -> dict[str, Any]:
        """Plain data."""
        return {"funnel": as_snapshot(self.funnel), "ttft": self.ttft.as_snapshot()}
