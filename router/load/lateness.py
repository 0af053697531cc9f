"""The decisions of other routers that are not known here yet.

Each router hears of the others' decisions a moment later. Until then, all of them see the same replica as the cheapest,
and all would send there. The number of unseen requests is estimated from the rate of the others' decisions and from the
delay of news. A router sees that delay at its own requests, of which it is told when they arrive.
"""

FORGET = 0.98
"""Weight of all earlier decisions or arrivals with each new one: the means are of the last fifty or so."""


class Lateness:
    """The lateness of news at one router."""

    def __init__(self) -> None:
        self.others_share = 0.0
        """Share of the decisions that other routers made, 0 to 1."""
        self.delay_s = 0.0
        """Mean delay of news, in seconds."""

    def decided(self, *, by_another: bool) -> None:
        """Count a decision, made here or by another router."""
        self.others_share = FORGET * self.others_share + (1 - FORGET) * by_another

    def told(self, *, delay_s: float) -> None:
        """Count the arrival of a request at its replica, which was known here `delay_s` after it was sent."""
        self.delay_s = FORGET * self.delay_s + (1 - FORGET) * delay_s

    def adopt(self, *, others_share: float, delay_s: float) -> None:
        """Take over a peer's means where none is known here."""
        self.others_share = self.others_share or others_share
        self.delay_s = self.delay_s or delay_s

    def unseen_requests(self, *, requests_per_s: float) -> float:
        """Estimated requests that others have placed and are not known here; all routers place `requests_per_s`."""
        return self.others_share * requests_per_s * self.delay_s
