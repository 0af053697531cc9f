"""The ring as a prior: the place of a request on it, and its word among replicas of nearly equal cost."""

from operator import itemgetter

from router.belief.match import PrefixMatch
from router.cluster import Cluster
from router.types import BlockHash, Replica, RouteRequest


def ring_key(request: RouteRequest, match: PrefixMatch, cluster: Cluster) -> BlockHash | None:
    """The request's place on the ring; None if nothing is known by which it could return to the same place."""
    if request.session_key is not None:
        return BlockHash(request.session_key)
    return cluster.start_key(request.block_hashes, match) if request.block_hashes else None


def cheapest(near: list[tuple[Replica, float]], near_s: float, key: BlockHash | None, cluster: Cluster) -> Replica:
    """The cheapest of the replicas whose costs differ by at most `near_s`, after the ring has had its word.

    Costs that differ by less than the unseen work are as good as equal. The nearer they are, the more the ring decides:
    so routers that decide on different prompts at the same moment do not all take the same replica.
    """
    if key is None or len(near) == 1:
        return min(near, key=itemgetter(1))[0]
    near.sort(key=lambda candidate: cluster.ring.distance(key, candidate[0].rank))
    step_s = near_s / len(near)
    _, place = min((cost + place * step_s, place) for place, (_, cost) in enumerate(near))
    return near[place][0]
