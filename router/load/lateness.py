"""What other routers have decided, and is not known here yet.

Each router hears of the others' decisions a moment later. Meanwhile all of them see the same replica as the cheapest,
and all would send there. How many requests are under way unseen is guessed: by how often the others decide, and by how
long news takes, which a router sees from its own requests, as they are told of when they arrive.
"""

FORGET = 0.98
"""What earlier decisions and arrivals count with each new one: the means are of the last fifty or so."""


class Lateness:
    """Of news, at one router."""

    def __init__(self) -> None:
        self.others_share = 0.0
        self.delay_s = 0.0

    def decided(self, *, by_another: bool) -> None:
        """A request was placed, here or by another router."""
        self.others_share = FORGET * self.others_share + (1 - FORGET) * by_another

    def told(self, *, delay_s: float) -> None:
        """A request has arrived at its replica; that was known so long after it was sent."""
        self.delay_s = FORGET * self.delay_s + (1 - FORGET) * delay_s

    def adopt(self, *, others_share: float, delay_s: float) -> None:
        """Take what is not known here yet to be as it is for a peer."""
        self.others_share = self.others_share or others_share
        self.delay_s = self.delay_s or delay_s

    def unseen_requests(self, *, requests_per_s: float) -> float:
        """Those that others have placed and are not known here, where all together place so many a second."""
        return self.others_share * requests_per_s * self.delay_s
