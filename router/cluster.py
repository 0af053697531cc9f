"""The state on which a policy decides: the replicas, their load, the estimates of their caches, and the ring."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from router.belief.continuations import Continuations
from router.belief.holders import Holders
from router.belief.match import CachedBlocks, PrefixMatch
from router.belief.tiers import HOST_TOKENS_PER_S, CachedTokens, Tiers
from router.keys.blocks import cacheable_tokens
from router.load.answers import Answers
from router.load.engine_model import EngineModel
from router.load.lateness import Lateness
from router.load.reservations import Reservations
from router.load.table import ReplicaLoad
from router.outcomes.reuse import Reuse
from router.ring import Ring
from router.types import BlockHash, Replica, ReplicaId, RouteRequest

MAX_DEEPEST = 16
"""Second tiers with the longest prefix of a prompt that are examined, at most: a share of it comes back from each."""
PRIOR_WORK_SHARE = 0.05
"""Recent work for its KV capacity that every replica is given in addition. Without it, the first replica with a
conversation would look as if it evicted more than the others."""


@dataclass(slots=True)
class Cluster:
    """One router's view. Policies read it; only the `Router` writes it."""

    load: Reservations
    holders: Holders
    ring: Ring
    block_size: int
    engine_model: EngineModel
    answers: Answers = field(default_factory=Answers)
    lateness: Lateness = field(default_factory=Lateness)
    reuse: Reuse = field(default_factory=Reuse)
    continuations: Continuations = field(default_factory=Continuations)
    tiers: Tiers = field(default_factory=Tiers)
    host_tokens_per_s: float = HOST_TOKENS_PER_S
    """Speed at which KV comes back from a second tier, in tokens a second."""
    now: float = 0.0
    """The time of the decision."""
    replicas: tuple[Replica, ...] = ()
    """Every replica there is."""
    kv_capacity_tokens: int = 0
    """KV capacity of all replicas together."""
    eligible: tuple[Replica, ...] = ()
    """The replicas that a policy may take."""
    excluded: tuple[Replica, ...] = ()
    """The other replicas, which are unhealthy."""
    untrusted: frozenset[ReplicaId] = frozenset()
    """Replicas that may not find prompts by the keys that are used here, so the estimates of their caches do not
    count."""
    trusted: Mapping[ReplicaId, Replica] = field(default_factory=dict)
    """The eligible replicas whose cache estimates count, by id."""
    _id_to_eligible: dict[ReplicaId, Replica] = field(default_factory=dict)
    _rank_to_eligible: dict[int, list[Replica]] = field(default_factory=dict)  # two while one replaces the other

    # The replicas

    def set_replicas(self, replicas: Iterable[Replica]) -> None:
        """Replace the set of replicas; all of them are eligible."""
        self.replicas = tuple(replicas)
        self.kv_capacity_tokens = sum(replica.kv_capacity_tokens for replica in self.replicas)
        self.exclude(())

    def exclude(self, replica_ids: Collection[ReplicaId]) -> None:
        """Make all replicas eligible but these, unless none would be left: then the evidence is more likely wrong."""
        healthy = tuple(replica for replica in self.replicas if replica.replica_id not in replica_ids)
        unhealthy = tuple(replica for replica in self.replicas if replica.replica_id in replica_ids)
        self.eligible, self.excluded = (healthy, unhealthy) if healthy else (self.replicas, ())
        self._id_to_eligible = {replica.replica_id: replica for replica in self.eligible}
        self._rank_to_eligible = {}
        for replica in self.eligible:
            self._rank_to_eligible.setdefault(replica.rank, []).append(replica)
        self.distrust(self.untrusted)

    def distrust(self, replica_ids: frozenset[ReplicaId]) -> None:
        """Count the cache estimates of all replicas but these."""
        self.untrusted = replica_ids
        self.trusted = self._id_to_eligible
        if replica_ids:
            trusted = (replica for replica in self.eligible if replica.replica_id not in replica_ids)
            self.trusted = {replica.replica_id: replica for replica in trusted}

    def eligible_of(self, replica_ids: Iterable[ReplicaId]) -> Iterator[Replica]:
        """The eligible ones of these replicas."""
        return (self._id_to_eligible[replica_id] for replica_id in replica_ids if replica_id in self._id_to_eligible)

    def replica(self, replica_id: ReplicaId | None) -> Replica | None:
        """The replica of this id, eligible or not; None if there is none."""
        return next((replica for replica in self.replicas if replica.replica_id == replica_id), None)

    # Their load

    def load_of(self, replica: Replica) -> ReplicaLoad:
        """Outstanding work at a replica."""
        return self.load[replica.replica_id]

    def remaining_s(self, replica: Replica) -> float:
        """Estimated time until a replica has computed its pending prompts, in seconds."""
        return self.load.remaining_s(replica.replica_id, now=self.now, late_s=self.lateness.delay_s)

    def remaining_tokens(self, replica: Replica) -> float:
        """Estimated prompt tokens that a replica has not computed yet."""
        return self.load.remaining_tokens(replica.replica_id, now=self.now, late_s=self.lateness.delay_s)

    def overtaken_s(self, replica: Replica, *, prefill_s: float) -> float:
        """Seconds of `remaining_s` that a prompt of this length overtakes, if the shortest goes first."""
        return self.load.overtaken_s(replica.replica_id, prefill_s=prefill_s)

    @property
    def mean_waiting(self) -> float:
        """Sequences without a first token, on average over the eligible replicas."""
        num_at_excluded = sum(self.load_of(replica).num_waiting for replica in self.excluded)
        return (self.load.total.num_waiting - num_at_excluded) / len(self.eligible)

    @property
    def unseen_s(self) -> float:
        """Work that other routers have placed and that is not known here yet, in seconds of prefill."""
        total = self.load.total
        if not total.recent_requests:
            return 0.0
        mean_tokens = total.recent_tokens / total.recent_requests
        num_unseen = self.lateness.unseen_requests(requests_per_s=self.load.requests_per_s)
        return num_unseen * mean_tokens / self.engine_model.prefill_tokens_per_s

    @property
    def mean_work_share(self) -> float:
        """Recent work of all replicas together, as a share of their KV capacity."""
        return self.load.total.recent_tokens / max(1, self.kv_capacity_tokens) + PRIOR_WORK_SHARE

    def work_share(self, replica: Replica) -> float:
        """Recent work of a replica, as a share of its KV capacity."""
        return self.load_of(replica).recent_tokens / max(1, replica.kv_capacity_tokens) + PRIOR_WORK_SHARE

    # Their caches

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """The replicas that can reuse a prefix of a prompt, from either tier.

        The steps of one tier lie between those of the other, so a holder of a deeper step need not hold all the steps
        before it.
        """
        local, external = self.holders.match(block_hashes), self.tiers.match(block_hashes)
        if not external.steps:
            return local
        steps = sorted((*local.steps, *external.steps), key=attrgetter("end"))
        return PrefixMatch(steps, max(local.shared_blocks, external.shared_blocks))

    def cached(self, replica: Replica, request: RouteRequest) -> CachedTokens:
        """Estimated prompt tokens that a replica reuses for a request, by tier."""
        return self.cached_by(replica, request, self.holders.cached_blocks(replica.replica_id, request.block_hashes))

    def cached_by(self, replica: Replica, request: RouteRequest, blocks: CachedBlocks) -> CachedTokens:
        """Estimated prompt tokens that a replica reuses for a request, with these blocks in its GPU cache."""
        if replica.replica_id in self.untrusted:
            return CachedTokens(self._untrusted_tokens(replica, request), 0)
        local_tokens = self.reusable_tokens(request, blocks.num_blocks)
        if blocks.num_answer_blocks:
            local_tokens += int(self.continuations.share * self.answer_tokens(replica, request, blocks))
        if not self.tiers.is_proven(replica.replica_id):
            return CachedTokens(local_tokens, 0)
        return CachedTokens(local_tokens, self._external_tokens(replica, request, local_tokens))

    def answer_tokens(self, replica: Replica, request: RouteRequest, blocks: CachedBlocks) -> int:
        """Prompt tokens after the cached blocks that are cached, too, if the prompt goes on with an earlier answer."""
        if replica.replica_id in self.untrusted:
            return 0
        num_blocks = blocks.num_blocks + blocks.num_answer_blocks
        return self.reusable_tokens(request, num_blocks) - self.reusable_tokens(request, blocks.num_blocks)

    def cached_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """Estimated prompt tokens that a replica reuses for a request, from both tiers together."""
        return self.cached(replica, request).total

    def best_cached_tokens(self, request: RouteRequest) -> int:
        """The most prompt tokens that any trusted replica is estimated to reuse."""
        local_blocks = self.holders.match(request.block_hashes).best_blocks(self.trusted)
        best_tokens = self.reusable_tokens(request, local_blocks)
        for step in reversed(self.tiers.match(request.block_hashes).steps):
            holders = [self.trusted[replica_id] for replica_id in step.run.holder_to_use if replica_id in self.trusted]
            if holders:
                deepest = islice(holders, MAX_DEEPEST)
                return max(best_tokens, *(self.cached_tokens(replica, request) for replica in deepest))
        return best_tokens

    def reusable_tokens(self, request: RouteRequest, num_blocks: int) -> int:
        """Prompt tokens of a request that need not be computed where its first `num_blocks` are cached."""
        return cacheable_tokens(request.num_prompt_tokens, num_blocks=num_blocks, block_size=self.block_size)

    def reload_s(self, cached: CachedTokens) -> float:
        """Time until the tokens from the second tier are back, in seconds."""
        return cached.external / self.host_tokens_per_s

    def _untrusted_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """The share of a prompt that an untrusted engine reused lately: its cache is neither empty nor as estimated."""
        most_tokens = self.reusable_tokens(request, len(request.block_hashes))
        return min(most_tokens, int(self.reuse.share(replica.replica_id) * request.num_prompt_tokens))

    def _external_tokens(self, replica: Replica, request: RouteRequest, local_tokens: int) -> int:
        """The tokens that only the second tier has, times the share of such tokens that came back lately."""
        num_blocks = self.tiers.matched_blocks(replica.replica_id, request.block_hashes)
        further_tokens = self.reusable_tokens(request, num_blocks) - local_tokens
        if further_tokens <= 0:
            return 0
        return int(self.tiers.share(replica.replica_id) * further_tokens)

    # The ring

    def start_key(self, block_hashes: Sequence[BlockHash], match: PrefixMatch) -> BlockHash:
        """The ring key of a prompt: its first block after the prefix that says nothing.

        That prefix is shared with other prompts, or cached by all replicas.
        """
        num_common_blocks = max(match.shared_blocks, match.blocks_at_all(len(self.replicas)))
        return block_hashes[min(num_common_blocks, len(block_hashes) - 1)]

    def in_ring_order(self, key: BlockHash) -> Iterator[Replica]:
        """The eligible replicas, clockwise from the key; found one by one."""
        for rank in self.ring.successors(key):  # the ranks of all replicas: those of excluded ones are skipped
            yield from self._rank_to_eligible.get(rank, ())
