"""The number of replicas over which the requests of one prefix are spread, as time goes on."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from math import inf, nan

from loadtests.replay.results import RequestRecord
from router import ReplicaId

NUM_SEEN = 50
"""The number of requests with the prefix over which fan-out is counted."""


class FanOut:
    """Positions are those of all requests in order of arrival.

    Args:
        records: of all requests, in any order.
        hot_arrivals_s: when those with the prefix arrived; no other arrived then.

    """

    def __init__(self, records: Iterable[RequestRecord], hot_arrivals_s: frozenset[float]) -> None:
        in_order = sorted(records, key=lambda record: record.arrival_s)
        self._arrivals_s = [record.arrival_s for record in in_order]
        self._positions = [position for position, at_s in enumerate(self._arrivals_s) if at_s in hot_arrivals_s]
        self._served_by: list[ReplicaId] = [in_order[position].replica_id for position in self._positions]

    def position(self, time_s: float) -> int:
        """The position of the first request from then on."""
        return bisect_left(self._arrivals_s, time_s)

    def before(self, position: int) -> int:
        """How many replicas the last requests with the prefix before that one went to."""
        end = bisect_left(self._positions, position)
        return len(set(self._served_by[max(0, end - NUM_SEEN) : end]))

    def after(self, position: int) -> int:
        """How many replicas the next requests with the prefix from that position on went to."""
        start = bisect_left(self._positions, position)
        return len(set(self._served_by[start : start + NUM_SEEN]))

    def main_share(self, position: int) -> float:
        """The share of the next requests from that position on that went to one replica."""
        start = bisect_left(self._positions, position)
        served_by = self._served_by[start : start + NUM_SEEN]
        return max(Counter(served_by).values()) / len(served_by) if served_by else nan

    def most(self, start: int, end: int) -> int:
        """The most replicas before any of the positions from `start` to `end`."""
        return max((self.before(each) for each in self._positions if start <= each < end), default=0)

    def num_until_one(self, position: int) -> float:
        """How many requests of all kinds from that one on until one replica gets as many as are seen in a row;
        infinite where none does.
        """
        first = bisect_left(self._positions, position)
        gathered = (
            self._positions[start] - position
            for start in range(first, len(self._positions) - NUM_SEEN + 1)
            if len(set(self._served_by[start : start + NUM_SEEN])) == 1
        )
        return next(map(float, gathered), inf)
