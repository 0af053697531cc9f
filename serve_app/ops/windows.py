"""The stretches of time over which operators look back, and how finely each is kept."""

from dataclasses import dataclass

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class Span:
    """Buckets of one length. They start at its multiples in Unix time, so a day is one of UTC."""

    length_s: int
    """Seconds of each bucket; 0 for a single bucket of all time."""
    kept_s: int | None
    """Seconds for which a bucket is kept after it was last written, while the application runs; None is for ever."""

    def start(self, now_s: float) -> int:
        """The start of the bucket of this moment."""
        return int(now_s) // self.length_s * self.length_s if self.length_s else 0


EVER = Span(0, None)
MOMENTS = Span(10, 2 * HOUR_S)
MINUTES = Span(10 * MINUTE_S, 2 * DAY_S)
HOURS = Span(HOUR_S, 35 * DAY_S)
DAYS = Span(DAY_S, 400 * DAY_S)
SPANS = (EVER, MOMENTS, MINUTES, HOURS, DAYS)


@dataclass(frozen=True, slots=True)
class Window:
    """The time up to now, `length_s` of it and at most one bucket more, in buckets of `span`."""

    length_s: int
    span: Span

    def start(self, now_s: float) -> int:
        """The start of its first bucket."""
        return self.span.start(now_s - self.length_s)


WINDOWS = {
    "5m": Window(5 * MINUTE_S, MOMENTS),
    "1h": Window(HOUR_S, MOMENTS),
    "24h": Window(DAY_S, MINUTES),
    "7d": Window(7 * DAY_S, HOURS),
    "28d": Window(28 * DAY_S, DAYS),
    "1y": Window(365 * DAY_S, DAYS),
}
"""Each window by its name in a URL."""
