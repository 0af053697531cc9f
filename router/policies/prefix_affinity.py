"""Our policy: the replica at which a request costs everybody the least time.

cost = until its first token there: what goes first there, and its own uncached tokens times their weight
     + others * what it does to what is being decoded there, and that to it, until its answer is complete
     + what it would wait for memory there

In seconds, by the engine's model and the replica's own speed. The weight of an uncached token counts, beside its own
time, what computing it costs later. It evicts something that would have been used again, and the faster a replica's
cache turns over, the sooner; by the square root, as what has not been used for long is used again more rarely. And who
waits behind it waits longer, the more sequences wait.

weight = 1 + evictions * sqrt(the replica's recent work for its KV capacity, to that of all)
           + per_waiting * (mean waiting sequences a replica)

What waits there goes by length, the shortest first: of the longer ones, what they are longer counts the less, the more
sequences wait. A request for several answers is as many sequences, whose prompt is computed once.

What of a prompt others begin with as well is no loss when it is computed: they will find it there.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from router.belief.holders import PrefixMatch
from router.cluster import PRIOR_WORK_SHARE, Cluster
from router.load.table import ReplicaLoad
from router.policies.policy import Choice, Unlearning
from router.types import BlockHash, Reason, Replica, ReplicaId, RouteRequest

NUM_HOLDERS = 8
NUM_SUCCESSORS = 3
NUM_LEAST_LOADED = 8
"""How many candidates of each kind are looked at, so that a decision's cost does not grow with the cluster."""


@dataclass(frozen=True, slots=True)
class CostWeights:
    """The numbers of the cost, chosen by replay; what each is worth is in docs/measurements/decision.md."""

    evictions: float = 3.0
    """Of an uncached token, in times of its own, at a replica whose cache turns over as fast as all together."""
    per_waiting: float = 2.0
    """Of an uncached token likewise, for each waiting sequence a replica."""
    shared: float = 0.5
    """Of an uncached token that other prompts begin with, too: they will find it."""
    others: float = 0.05
    """Of a second for which a stream is slower, beside a second until a first token."""
    memory: float = 1.0
    """Of a second of waiting for memory."""
    tie_s: float = 0.001
    """Costs that differ by less are equal, whatever is unseen: routers do not count alike to the last digit."""
    unseen: float = 1.0
    """Of the work that other routers have placed and is not known here yet."""
    session: float = 0.5
    """Of a prompt that cannot be looked at, the share taken to be cached where its session's place on the ring is."""


class PrefixAffinity(Unlearning):
    """The cheapest of the prompt's holders, its first places on the ring, and the least loaded replicas."""

    name = "prefix_affinity"

    def __init__(self, weights: CostWeights | None = None) -> None:
        self._weights = weights or CostWeights()

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest candidate; equal cost goes to the first in ring order."""
        match = cluster.match(request.block_hashes)
        key = _key(request, match, cluster)
        successors = [] if key is None else list(islice(cluster.in_ring_order(key), NUM_SUCCESSORS))
        near_s = self._weights.tie_s + self._weights.unseen * cluster.unseen_s
        owner = successors[0] if successors else None
        costs = _Costs(request, cluster, match, weights=self._weights, owner=owner, near_s=near_s)
        costs.look_at_holders(match)
        costs.look_at(successors, NUM_SUCCESSORS)
        costs.look_at(cluster.eligible_of(cluster.load.least_loaded_first), NUM_LEAST_LOADED)
        chosen = _cheapest(costs.near, near_s, key, cluster)
        if not request.block_hashes:
            return Choice(chosen, Reason.NO_KEY)
        return Choice(chosen, _reason(chosen, successors[0], match, cluster))


class _Costs:
    """What a request costs at each replica, at this moment."""

    def __init__(
        self,
        request: RouteRequest,
        cluster: Cluster,
        match: PrefixMatch,
        *,
        weights: CostWeights,
        owner: Replica | None,
        near_s: float,
    ) -> None:
        self._request = request
        self._cluster = cluster
        self._weights = weights
        self._model = cluster.engine_model
        self._answer_tokens = cluster.answers.expected_tokens(request)
        self._all_answers_tokens = request.num_sequences * self._answer_tokens
        self._context_tokens = request.num_prompt_tokens / request.num_prompts + self._answer_tokens / 2
        self._shared_tokens = cluster.reusable_tokens(request, match.shared_blocks)
        mean_waiting = cluster.mean_waiting
        self._waiting_weight = weights.per_waiting * mean_waiting
        self._overtaking_weight = mean_waiting / (1 + mean_waiting)
        self._evictions_weight = weights.evictions / math.sqrt(cluster.mean_work_share)
        self._session_owner = None if request.block_hashes else owner
        self._near_s = near_s
        self._uncached_to_prefill_s: dict[float, tuple[float, float]] = {}
        self._costs: list[tuple[Replica, float]] = []
        self._looked_at: set[ReplicaId] = set()
        self._least_cost = math.inf
        self._least_speed = 1.0
        self._least_prefill_s = 0.0
        """Of those not looked at yet."""
        self._least_weighted_s = 0.0
        """The same, with the weight that a token has at the least."""

    @property
    def near(self) -> list[tuple[Replica, float]]:
        """The cheapest and those that are near it, in no order that matters."""
        return [each for each in self._costs if each[1] <= self._least_cost + self._near_s]

    def look_at(self, replicas: Iterable[Replica], num: int) -> None:
        """Consider the first of these, so many at most."""
        for replica in islice(replicas, num):
            if replica.replica_id not in self._looked_at:
                self._look_at(replica)

    def look_at_holders(self, match: PrefixMatch) -> None:
        """Consider who holds some of the prompt, the most first, while less can still be cheaper."""
        known: Collection[ReplicaId] = ()
        for step in reversed(match.steps):
            holders = step.run.holder_to_use.keys()
            if holders == known:
                continue  # as a rule, who holds a run holds the ones before it
            if known:
                self._others_hold_at_most(step.end)
            num_left = NUM_HOLDERS - len(self._looked_at)
            if num_left <= 0 or self._least_weighted_s > (self._least_cost + self._near_s) * self._least_speed:
                return
            known = holders
            self.look_at(_credible(_least_loaded(holders, self._cluster), self._cluster), num_left)
            if len(holders) > num_left:
                return
        if known:
            self._others_hold_at_most(0)

    def _others_hold_at_most(self, num_blocks: int) -> None:
        """Those not looked at yet have at most so many leading blocks in their caches."""
        if self._cluster.untrusted or self._cluster.tiers.any_proven:
            return
        num_held_tokens = self._cluster.reusable_tokens(self._request, num_blocks)
        prefill_s, missing_s = self._prefill_s(self._request.num_prompt_tokens - num_held_tokens)
        least_weight = self._weight(PRIOR_WORK_SHARE)
        self._least_prefill_s = prefill_s
        self._least_weighted_s = least_weight * (prefill_s - missing_s) + self._weights.shared * missing_s

    def _look_at(self, replica: Replica) -> None:
        """Work out its cost, unless what waits there and its prefill alone cost too much."""
        self._looked_at.add(replica.replica_id)
        remaining_s, speed = self._cluster.remaining_s(replica), self._cluster.load.speed(replica.replica_id)
        least_wait_s = self._wait_s(replica, remaining_s, self._least_prefill_s)
        if least_wait_s + self._least_weighted_s / speed > self._least_cost + self._near_s:
            return
        cost = self.of(replica, remaining_s=remaining_s, speed=speed)
        self._costs.append((replica, cost))
        if cost < self._least_cost:
            self._least_cost, self._least_speed = cost, speed

    def of(self, replica: Replica, *, remaining_s: float, speed: float) -> float:
        """In seconds, where so much remains, and the replica is so fast."""
        cluster, load = self._cluster, self._cluster.load_of(replica)
        cached = cluster.cached(replica, self._request)
        uncached_tokens: float = self._request.num_prompt_tokens - cached.total
        if replica == self._session_owner:
            uncached_tokens *= 1 - self._weights.session
        prefill_s, missing_s = self._prefill_s(uncached_tokens)
        weighted_s = (
            self._weight(cluster.work_share(replica)) * (prefill_s - missing_s) + self._weights.shared * missing_s
        )
        others_s = self._weights.others * (self._slowdown_s(load) + load.num_running * prefill_s)
        memory_s = self._memory_s(replica, load, uncached_tokens)
        wait_s = self._wait_s(replica, remaining_s, prefill_s)
        return wait_s + cluster.reload_s(cached) + (weighted_s + others_s + memory_s) / speed

    def _wait_s(self, replica: Replica, remaining_s: float, prefill_s: float) -> float:
        """What remains there, less of what it would overtake. That keeps the replica busy while others may be idle, so
        it counts the more, the fewer wait.
        """
        return remaining_s - self._overtaking_weight * self._cluster.overtaken_s(replica, prefill_s=prefill_s)

    def _weight(self, work_share: float) -> float:
        """Of an uncached token that no other prompt begins with."""
        return 1 + self._waiting_weight + self._evictions_weight * math.sqrt(work_share)

    def _prefill_s(self, uncached_tokens: float) -> tuple[float, float]:
        """Of the prompt's last tokens, and of those of them that other prompts begin with, too. Candidates that hold
        alike have the same.
        """
        known = self._uncached_to_prefill_s.get(uncached_tokens)
        if known is None:
            num_before = self._request.num_prompt_tokens - uncached_tokens
            missing_tokens = max(0.0, min(self._shared_tokens - num_before, uncached_tokens))
            known = self._uncached_to_prefill_s[uncached_tokens] = (
                self._model.prefill_s(uncached_tokens, num_before=num_before),
                self._model.prefill_s(missing_tokens, num_before=num_before),
            )
        return known

    def _slowdown_s(self, load: ReplicaLoad) -> float:
        """Over its answers, what those there add to its steps, and what it adds to all of theirs."""
        num_others = load.num_sequences
        context_tokens = load.context_tokens + num_others * self._context_tokens
        return self._all_answers_tokens * self._model.decode_step_s(2 * num_others, context_tokens=context_tokens)

    def _memory_s(self, replica: Replica, load: ReplicaLoad, uncached_tokens: float) -> float:
        """Where what is outstanding there grows beyond the KV cache, a second and the share of an answer's time that it
        is too much: its engine lets prompts wait for a stream to end, or preempts one.
        """
        capacity_tokens = replica.kv_capacity_tokens
        excess_tokens = load.kv_tokens + uncached_tokens + self._all_answers_tokens - capacity_tokens
        if excess_tokens <= 0:
            return 0.0
        decoding_s = self._model.decode_step_s(load.num_running, context_tokens=load.context_tokens)
        answer_s = self._answer_tokens * (self._model.step_s + decoding_s)
        return self._weights.memory * (1 + min(1.0, excess_tokens / max(1, capacity_tokens)) * answer_s)


def _cheapest(near: list[tuple[Replica, float]], near_s: float, key: BlockHash | None, cluster: Cluster) -> Replica:
    """Costs that differ by less than what is unseen are as good as equal, and the ring decides the more, the nearer
    they are: so those who decide at the same moment on different prompts do not all take the same replica.
    """
    if key is None or len(near) == 1:
        return min(near, key=itemgetter(1))[0]
    near.sort(key=lambda each: cluster.ring.distance(key, each[0].rank))
    step_s = near_s / len(near)
    _, place = min((cost + place * step_s, place) for place, (_, cost) in enumerate(near))
    return near[place][0]


def _credible(holders: Iterable[ReplicaId], cluster: Cluster) -> Iterable[Replica]:
    """Those in the choice whose beliefs count."""
    return (cluster.trusted[each] for each in holders if each in cluster.trusted)


def _least_loaded(holders: Collection[ReplicaId], cluster: Cluster) -> Iterable[ReplicaId]:
    """Holders of a run, the least loaded first where that matters."""
    if len(holders) <= NUM_HOLDERS:
        return holders
    if len(holders) ** 2 <= NUM_HOLDERS * len(cluster.replicas):  # few: to look for them costs more than to sort them
        return sorted(holders, key=lambda each: cluster.load[each].pending_tokens)
    return (each for each in cluster.load.least_loaded_first if each in holders)


def _key(request: RouteRequest, match: PrefixMatch, cluster: Cluster) -> BlockHash | None:
    """Where on the ring the request belongs; None if nothing is known by which it could return there."""
    if request.session_key is not None:
        return BlockHash(request.session_key)
    return cluster.start_key(request.block_hashes, match) if request.block_hashes else None


def _reason(chosen: Replica, owner: Replica, match: PrefixMatch, cluster: Cluster) -> Reason:
    best_blocks = match.best_blocks(cluster.trusted)
    if best_blocks and (chosen.replica_id in cluster.untrusted or match.blocks_at(chosen.replica_id) < best_blocks):
        return Reason.SPILL
    if match.blocks_at_all(len(cluster.replicas)) < best_blocks:
        return Reason.PREFIX
    return Reason.RING if chosen == owner else Reason.SPILL
