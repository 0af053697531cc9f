"""Our policy: the replica on which the prompt costs least, in prefill tokens, everything counted.

cost = remaining prefill tokens there
     + weight * (prompt tokens - tokens believed cached there)
     + decode_tokens * requests being decoded there

The first term delays this request. So does the second, and it delays others as well: whoever is sent there before the
replica has caught up, which are more the longer that takes and the more arrive meanwhile:

weight = base + per_waiting * (mean waiting requests a replica)
                            * (remaining tokens there + uncached tokens of this prompt) / (mean tokens of a request)

base > 1, because a prefix computed twice also evicts something that would have been reused. Both numbers were chosen by
replay of the Mooncake conversation trace (docs/routing.md).

The cost looks one request ahead, and a conversation has many. So where a conversation *starts* is bounded by load: a
replica that got more than its share of recent work is no candidate, even if it alone holds the prefix that the
conversation shares with others. Without that, a system prompt which everybody shares sends everybody to the replica
that saw it first.

A *giant* is a prompt of which so much has to be computed that it evicts a good part of what a replica holds, and keeps
it busy for so long that others cannot use the rest. Giants are kept together on some of the replicas, and go elsewhere
only to wait less, by more than they compute themselves.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from router.cluster import Cluster
from router.holders import PrefixMatch
from router.policies.least_loaded import LeastLoaded
from router.policies.policy import Choice, Unlearning
from router.ring import bound
from router.types import BlockHash, Reason, Replica, ReplicaId, RouteRequest

NUM_HOLDERS = 16
NUM_SUCCESSORS = 3
NUM_LEAST_LOADED = 8
"""How many candidates of each kind are looked at, so that a decision's cost does not grow with the cluster."""
SESSION_SHARE = 0.5
"""Of a prompt that cannot be looked at, how much is taken to be cached where its session went before."""
MAX_SCANNED = 32
"""So many are tried, of which some may be out of bound."""
GIANTS_KEY = BlockHash(0)
"""Where on the ring the giants' replicas begin; all routers take the same."""
GIANTS_REPLICAS_SHARE = 0.375
"""How many these are. With a quarter, giants are delayed twice as much, and others gain no more."""
GIANT_FACTOR = 4.0
"""A giant is also as much as so many mean requests: nothing stands out where all are long. Without that, caches of
60,000 tokens made giants of many prompts of the conversation trace, and mean TTFT rose by 5 to 11 %."""
MAX_FAN_OUT = 32
"""A prefix for more replicas than these is for all."""


@dataclass(frozen=True, slots=True)
class PrefixAffinityOptions:
    """The numbers of the cost rule and of its candidates."""

    weight_base: float
    """Cost of a prefill token computed for a request, in tokens of waiting, when nobody waits."""
    weight_per_waiting: float
    """Added for each waiting request a replica, where catching up takes as long as a mean request does."""
    decode_tokens: int
    """How much a request being decoded there delays a prefill, in tokens."""
    recent_weight: float
    """How much recent work at a replica counts as cost where a conversation starts, which will go on there."""
    tie_share: float
    """Costs that differ by less than this share of a mean request's work are equal, and the ring decides: what other
    routers decide at this moment is not known yet, and so not all of them take the one that looks least busy."""
    load_factor: float
    """No conversation starts where recent work exceeds this multiple of the mean ..."""
    load_margin_tokens: int
    """... and is also this far above it, in prefill tokens."""
    giant_share: float
    """A prompt of which more is uncached than this share of a replica's KV capacity is a giant."""


class PrefixAffinity(Unlearning):
    """Affinity to the cached prefix, bounded load, and the ring where neither decides.

    Requests whose key is unknown go to the `fallback`'s least loaded replica.
    """

    name = "prefix_affinity"

    def __init__(self, options: PrefixAffinityOptions, *, fallback: LeastLoaded) -> None:
        self._options = options
        self._fallback = fallback

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest candidate; equal cost goes to the first in ring order."""
        if not request.block_hashes:
            return self._without_key(request, cluster)
        match = cluster.match(request.block_hashes)
        best_blocks = match.best_blocks(cluster.credible)
        is_start = best_blocks <= match.shared_blocks
        key = _key(request, match, cluster)
        successors = list(islice(cluster.in_ring_order(key), NUM_SUCCESSORS))
        least_uncached_tokens = request.num_prompt_tokens - cluster.reusable_tokens(request, best_blocks)
        is_giant = self._is_giant(least_uncached_tokens, successors[0], cluster)
        cheapest = _Cheapest(
            request,
            cluster,
            match,
            rule=self._rule(cluster),
            key=key,
            start=self._start(match, successors[0], cluster) if is_start and not is_giant else None,
            home=_giants_home(cluster) if is_giant else None,
        )
        cheapest.look_at_home()
        cheapest.look_at_holders()
        cheapest.look_at(successors, NUM_SUCCESSORS)
        cheapest.look_at(cluster.in_choice(cluster.load.least_loaded_first), NUM_LEAST_LOADED)
        chosen = cheapest.found()
        return Choice(chosen, _reason(chosen, successors[0], match, best_blocks, cluster))

    def _without_key(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """By load; a session goes where it went before, for what may be cached there, unless that replica is busy."""
        chosen = self._fallback.least_loaded(cluster)
        if request.session_key is not None:
            owner = next(cluster.in_ring_order(BlockHash(request.session_key)))
            saved_tokens = self._options.weight_base * SESSION_SHARE * request.num_prompt_tokens
            if cluster.remaining_tokens(owner) <= cluster.remaining_tokens(chosen) + saved_tokens:
                chosen = owner
        return Choice(chosen, Reason.NO_KEY)

    def _is_giant(self, uncached_tokens: int, owner: Replica, cluster: Cluster) -> bool:
        return (
            uncached_tokens > self._options.giant_share * owner.kv_capacity_tokens
            and uncached_tokens > GIANT_FACTOR * cluster.mean_request_tokens
        )

    def _start(self, match: PrefixMatch, owner: Replica, cluster: Cluster) -> "_Start":
        return _Start(
            limit_tokens=self._limit_tokens(cluster),
            recent_weight=self._options.recent_weight,
            favoured=_favoured(match, cluster),
            owner=owner,
            owner_share=cluster.ring_prior.share,
        )

    def _limit_tokens(self, cluster: Cluster) -> float:
        return bound(
            cluster.mean_recent_tokens,
            load_factor=self._options.load_factor,
            margin_tokens=self._options.load_margin_tokens,
        )

    def _rule(self, cluster: Cluster) -> "_CostRule":
        mean_tokens = cluster.mean_request_tokens
        per_waiting = self._options.weight_per_waiting * cluster.mean_waiting
        return _CostRule(
            self._options.weight_base,
            per_waiting / mean_tokens if mean_tokens else 0.0,
            self._options.decode_tokens,
            self._options.tie_share * mean_tokens,
        )


class _CostRule(NamedTuple):
    """The cost of a prompt at a replica, in prefill tokens, with this moment's weight."""

    weight_base: float
    weight_per_token: float
    decode_tokens: int
    tie_tokens: float

    def cost(self, *, remaining_tokens: float, uncached_tokens: float, num_running: int) -> float:
        weight = self.weight_base + self.weight_per_token * (remaining_tokens + uncached_tokens)
        return remaining_tokens + weight * uncached_tokens + self.decode_tokens * num_running

    def least_cost(self, uncached_tokens: int) -> float:
        """Of any replica where so many tokens are not cached."""
        return self.weight_base * uncached_tokens


class _Start(NamedTuple):
    """What counts besides where a conversation starts."""

    limit_tokens: float
    """Of recent work; who has more is no candidate."""
    recent_weight: float
    favoured: Collection[ReplicaId] | None
    """Whose copy of the shared prefix counts; None for everybody's."""
    owner: Replica
    """Of the key, on the ring."""
    owner_share: float
    """Of what nothing is known of, how much the owner probably holds."""


class _Cheapest:
    """Looks at candidates one after the other, and remembers the cheapest."""

    def __init__(
        self,
        request: RouteRequest,
        cluster: Cluster,
        match: PrefixMatch,
        *,
        rule: _CostRule,
        key: BlockHash,
        start: _Start | None,
        home: Collection[ReplicaId] | None,
    ) -> None:
        self._request = request
        self._cluster = cluster
        self._doubted = cluster.doubted
        self._match = match
        self._rule = rule
        self._key = key
        self._start = start
        self._home = home  # the giants' replicas, where the request is one
        self._limit_tokens = math.inf if start is None else start.limit_tokens
        self._seen: dict[ReplicaId, float] = {}
        self._best_cost = math.inf

    def look_at(self, replicas: Iterable[Replica], num: int) -> None:
        """Consider the first of these that are within the bound and were not considered before, so many at most."""
        num_in_all = len(self._seen) + num
        for replica in islice(replicas, MAX_SCANNED):
            if len(self._seen) == num_in_all:
                return
            if replica.replica_id not in self._seen and self._recent_tokens(replica) <= self._limit_tokens:
                cost = self._seen[replica.replica_id] = self._cost(replica)
                self._best_cost = min(self._best_cost, cost)

    def look_at_home(self) -> None:
        """Consider the least loaded of the giants' replicas, if this is a giant."""
        if self._home is not None:
            self.look_at(self._cluster.in_choice(_least_loaded(self._home, self._cluster)), NUM_LEAST_LOADED)

    def look_at_holders(self) -> None:
        """Consider who holds some of the prompt, the most first, while less can still be cheaper."""
        known: Collection[ReplicaId] = ()
        for step in reversed(self._match.steps):
            if step.run.holder_to_use.keys() == known:
                continue  # as a rule, who holds a run holds the ones before it
            known = step.run.holder_to_use.keys()
            can_be_cheaper = self._rule.least_cost(self._uncached_tokens(step.end)) <= self._best_cost
            if len(self._seen) >= NUM_HOLDERS or not can_be_cheaper:
                return
            holders = _credible(_least_loaded(step.run.holder_to_use, self._cluster), self._cluster)
            self.look_at(holders, NUM_HOLDERS - len(self._seen))

    def found(self) -> Replica:
        """The cheapest of all, and of equal ones the first on the ring; where the bound left nobody, the least busy."""
        if not self._seen:
            return min(self._cluster.replicas, key=self._recent_tokens)
        equal = (each for each, cost in self._seen.items() if cost <= self._best_cost + self._rule.tie_tokens)
        return min(self._cluster.in_choice(equal), key=self._distance)

    def _cost(self, replica: Replica) -> float:
        uncached_tokens: float = self._request.num_prompt_tokens
        if self._is_credited(replica.replica_id):
            uncached_tokens -= self._cluster.cached_tokens(replica, self._request)
        remaining_tokens = self._cluster.remaining_tokens(replica)
        if self._home is not None:  # who comes while it is computed goes elsewhere, so that nobody waits for it
            is_away = replica.replica_id not in self._home
            return remaining_tokens + (self._rule.weight_base + is_away) * uncached_tokens
        recent_tokens = 0.0
        if self._start is not None:
            recent_tokens = self._start.recent_weight * self._recent_tokens(replica)
            if replica == self._start.owner and replica.replica_id not in self._doubted:
                uncached_tokens *= 1 - self._start.owner_share
        return recent_tokens + self._rule.cost(
            remaining_tokens=remaining_tokens,
            uncached_tokens=uncached_tokens,
            num_running=self._cluster.load_of(replica).num_running,
        )

    def _is_credited(self, replica_id: ReplicaId) -> bool:
        is_favoured = self._start is None or self._start.favoured is None or replica_id in self._start.favoured
        return is_favoured or replica_id in self._doubted

    def _uncached_tokens(self, num_blocks: int) -> int:
        return self._request.num_prompt_tokens - self._cluster.reusable_tokens(self._request, num_blocks)

    def _recent_tokens(self, replica: Replica) -> float:
        return self._cluster.load_of(replica).recent_tokens

    def _distance(self, replica: Replica) -> int:
        return self._cluster.ring.distance(self._key, replica.rank)


def _least_loaded(holders: Collection[ReplicaId], cluster: Cluster) -> Iterable[ReplicaId]:
    """Holders of a run, the least loaded first where that matters."""
    if len(holders) <= NUM_HOLDERS:
        return holders
    if len(holders) ** 2 <= NUM_HOLDERS * len(cluster.members):  # few: to look for them costs more than to sort them
        return sorted(holders, key=lambda each: cluster.load[each].pending_tokens)
    return (each for each in cluster.load.least_loaded_first if each in holders)


def _credible(holders: Iterable[ReplicaId], cluster: Cluster) -> Iterable[Replica]:
    """Those in the choice whose beliefs count."""
    return (cluster.credible[each] for each in holders if each in cluster.credible)


def _giants_home(cluster: Cluster) -> Collection[ReplicaId]:
    num_replicas = math.ceil(GIANTS_REPLICAS_SHARE * len(cluster.replicas))
    return {replica.replica_id for replica in islice(cluster.in_ring_order(GIANTS_KEY), num_replicas)}


def _key(request: RouteRequest, match: PrefixMatch, cluster: Cluster) -> BlockHash:
    if request.session_key is not None:
        return BlockHash(request.session_key)
    return cluster.start_key(request.block_hashes, match)


def _favoured(match: PrefixMatch, cluster: Cluster) -> Collection[ReplicaId] | None:
    """Of the holders of a shared prefix, those that it is for: the first on the ring. None where it is for all.

    A prefix that was wanted by many is held by many, and stays there as long as all of them get some of what is left.
    """
    run = next((step.run for step in match.steps if step.end == match.shared_blocks), None)
    if run is None or len(run.holder_to_use) <= run.fan_out or run.fan_out > MAX_FAN_OUT:
        return None
    key, holders = BlockHash(run.hashes[-1]), run.holder_to_use
    if len(holders) ** 2 <= run.fan_out * len(cluster.members):  # few: to look for them costs more than to sort them
        in_order = iter(sorted(_credible(holders, cluster), key=lambda each: cluster.ring.distance(key, each.rank)))
    else:
        in_order = (
            each
            for each in cluster.in_ring_order(key)
            if each.replica_id in holders and each.replica_id in cluster.credible
        )
    return {replica.replica_id for replica in islice(in_order, run.fan_out)}


def _reason(chosen: Replica, owner: Replica, match: PrefixMatch, best_blocks: int, cluster: Cluster) -> Reason:
    if best_blocks and (chosen.replica_id in cluster.doubted or match.blocks_at(chosen.replica_id) < best_blocks):
        return Reason.SPILL
    if match.blocks_at_all(len(cluster.members)) < best_blocks:
        return Reason.PREFIX
    return Reason.RING if chosen == owner else Reason.SPILL
