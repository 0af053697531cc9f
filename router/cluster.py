"""The state that a policy decides on: replicas, their load, what they are believed to hold, and the ring."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from router.account.reuse import Reuse
from router.belief.continuations import Continuations
from router.belief.holders import Held, Holders, PrefixMatch
from router.belief.tiers import HOST_TOKENS_PER_S, CachedTokens, Tiers
from router.keys.blocks import cacheable_tokens
from router.load.answers import Answers
from router.load.engine_model import EngineModel
from router.load.lateness import Lateness
from router.load.reservations import LoadBook
from router.load.table import ReplicaLoad
from router.ring import Ring
from router.types import BlockHash, Replica, ReplicaId, RouteRequest

MAX_DEEPEST = 16
"""Of those whose second tier holds the most of a prompt, so many are looked at: a share of it comes back, to each."""
PRIOR_WORK_SHARE = 0.05
"""Recent work that every replica is taken to have beside its own, for its KV capacity: before much was sent anywhere,
who got the first conversation does not look as if it evicted more than the rest."""


@dataclass(slots=True)
class Cluster:
    """One router's view. Policies read it; only the `Router` writes it."""

    load: LoadBook
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
    """How fast KV comes back from a second tier."""
    now: float = 0.0
    """When the decision is made."""
    replicas: tuple[Replica, ...] = ()
    """Every replica there is."""
    kv_capacity_tokens: int = 0
    """KV capacity of all replicas together."""
    eligible: tuple[Replica, ...] = ()
    """Replicas that a policy may take."""
    excluded: tuple[Replica, ...] = ()
    """The other replicas, which are unhealthy."""
    untrusted: frozenset[ReplicaId] = frozenset()
    """Replicas that may not find prompts by the keys that are used here, so that estimates of their caches count
    nothing."""
    trusted: Mapping[ReplicaId, Replica] = field(default_factory=dict)
    """Eligible replicas of whose caches the estimates count, by id."""
    _id_to_eligible: dict[ReplicaId, Replica] = field(default_factory=dict)
    _rank_to_eligible: dict[int, list[Replica]] = field(default_factory=dict)  # two while one replaces the other

    def set_replicas(self, replicas: Iterable[Replica]) -> None:
        """Replace the set of replicas; all of them are eligible."""
        self.replicas = tuple(replicas)
        self.kv_capacity_tokens = sum(replica.kv_capacity_tokens for replica in self.replicas)
        self.exclude(())

    def exclude(self, replica_ids: Collection[ReplicaId]) -> None:
        """Make all replicas eligible but these, unless none would be left: then the evidence is more likely wrong."""
        healthy = tuple(replica for replica in self.replicas if replica.replica_id not in replica_ids)
        self.eligible = healthy or self.replicas
        self.excluded = (
            tuple(replica for replica in self.replicas if replica.replica_id in replica_ids) if healthy else ()
        )
        self._id_to_eligible = {replica.replica_id: replica for replica in self.eligible}
        self.distrust(self.untrusted)
        self._rank_to_eligible = {}
        for replica in self.eligible:
            self._rank_to_eligible.setdefault(replica.rank, []).append(replica)

    def distrust(self, replica_ids: frozenset[ReplicaId]) -> None:
        """Trust the estimates of all caches but those of these replicas."""
        self.untrusted = replica_ids
        self.trusted = self._id_to_eligible
        if replica_ids:
            self.trusted = {
                replica_id: replica
                for replica_id, replica in self._id_to_eligible.items()
                if replica_id not in replica_ids
            }

    def eligible_of(self, replica_ids: Iterable[ReplicaId]) -> Iterator[Replica]:
        """Those of these replicas that are eligible."""
        return (self._id_to_eligible[replica_id] for replica_id in replica_ids if replica_id in self._id_to_eligible)

    def load_of(self, replica: Replica) -> ReplicaLoad:
        """Outstanding work at a replica."""
        return self.load[replica.replica_id]

    def remaining_s(self, replica: Replica) -> float:
        """How long a replica still computes the prompts that were sent there, as far as can be guessed."""
        return self.load.remaining_s(replica.replica_id, now=self.now, late_s=self.lateness.delay_s)

    def remaining_tokens(self, replica: Replica) -> float:
        """The prompt tokens that these are."""
        return self.load.remaining_tokens(replica.replica_id, now=self.now, late_s=self.lateness.delay_s)

    def overtaken_s(self, replica: Replica, *, prefill_s: float) -> float:
        """How much less of it is before a prompt that takes so long, if the shortest goes first."""
        return self.load.overtaken_s(replica.replica_id, prefill_s=prefill_s)

    @property
    def mean_waiting(self) -> float:
        """Sequences without a first token, on average over the eligible replicas."""
        num_outside = sum(self.load_of(replica).num_waiting for replica in self.excluded)
        return (self.load.total.num_waiting - num_outside) / len(self.eligible)

    @property
    def unseen_s(self) -> float:
        """Work that other routers have placed somewhere, and that is not known here yet; in seconds of prefill."""
        total = self.load.total
        if not total.recent_requests:
            return 0.0
        mean_tokens = total.recent_tokens / total.recent_requests
        num_unseen = self.lateness.unseen_requests(requests_per_s=self.load.requests_per_s)
        return num_unseen * mean_tokens / self.engine_model.prefill_tokens_per_s

    @property
    def mean_work_share(self) -> float:
        """Recent work of all members together, for their KV capacity."""
        return self.load.total.recent_tokens / max(1, self.kv_capacity_tokens) + PRIOR_WORK_SHARE

    def work_share(self, replica: Replica) -> float:
        """Recent work there, for its KV capacity."""
        return self.load_of(replica).recent_tokens / max(1, replica.kv_capacity_tokens) + PRIOR_WORK_SHARE

    def cached(self, replica: Replica, request: RouteRequest) -> CachedTokens:
        """Prompt tokens that the replica is believed to reuse for this request, by tier."""
        return self.cached_of(replica, request, self.holders.held(replica.replica_id, request.block_hashes))

    def cached_of(self, replica: Replica, request: RouteRequest, held: Held) -> CachedTokens:
        """The same, where so much of the prompt is held."""
        if replica.replica_id in self.untrusted:
            return CachedTokens(self._untrusted_tokens(replica, request), 0)
        local_tokens = self.reusable_tokens(request, held.num_blocks)
        if held.num_answer_blocks:
            local_tokens += int(self.continuations.share * self.answer_tokens(replica, request, held))
        if not self.tiers.is_proven(replica.replica_id):
            return CachedTokens(local_tokens, 0)
        return CachedTokens(local_tokens, self._external_tokens(replica, request, local_tokens))

    def answer_tokens(self, replica: Replica, request: RouteRequest, held: Held) -> int:
        """Prompt tokens beyond the blocks held that are an earlier answer's, if the prompt goes on with it."""
        if replica.replica_id in self.untrusted:
            return 0
        num_blocks = held.num_blocks + held.num_answer_blocks
        return self.reusable_tokens(request, num_blocks) - self.reusable_tokens(request, held.num_blocks)

    def cached_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """The same, of both tiers together."""
        return self.cached(replica, request).total

    def reload_s(self, cached: CachedTokens) -> float:
        """How long it takes until what is in the second tier is back."""
        return cached.external / self.host_tokens_per_s

    def _untrusted_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """Of a doubted one, the share that its engine reused lately: it is neither empty nor what it seems."""
        most_tokens = self.reusable_tokens(request, len(request.block_hashes))
        return min(most_tokens, int(self.reuse.share(replica.replica_id) * request.num_prompt_tokens))

    def _external_tokens(self, replica: Replica, request: RouteRequest, local_tokens: int) -> int:
        """Of what only the second tier holds, the share that lately came back."""
        num_blocks = self.tiers.matched_blocks(replica.replica_id, request.block_hashes)
        further_tokens = self.reusable_tokens(request, num_blocks) - local_tokens
        if further_tokens <= 0:
            return 0
        return int(self.tiers.share(replica.replica_id) * further_tokens)

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """Who can reuse how much of a prompt, from either tier. Of the steps, those of one tier are between those of
        the other, so that who is in a deeper one need not be in all before it.
        """
        local, external = self.holders.match(block_hashes), self.tiers.match(block_hashes)
        if not external.steps:
            return local
        steps = sorted((*local.steps, *external.steps), key=attrgetter("end"))
        return PrefixMatch(steps, max(local.shared_blocks, external.shared_blocks))

    def best_cached_tokens(self, request: RouteRequest) -> int:
        """The most of a prompt that any replica whose beliefs count is believed to reuse."""
        local_blocks = self.holders.match(request.block_hashes).best_blocks(self.trusted)
        best_tokens = self.reusable_tokens(request, local_blocks)
        for step in reversed(self.tiers.match(request.block_hashes).steps):
            holders = [self.trusted[each] for each in step.run.holder_to_use if each in self.trusted]
            if holders:
                deepest = islice(holders, MAX_DEEPEST)
                return max(best_tokens, *(self.cached(each, request).total for each in deepest))
        return best_tokens

    def reusable_tokens(self, request: RouteRequest, num_blocks: int) -> int:
        """Prompt tokens that so many of its leading blocks spare."""
        return cacheable_tokens(request.num_prompt_tokens, num_blocks=num_blocks, block_size=self.block_size)

    def start_key(self, block_hashes: Sequence[BlockHash], match: PrefixMatch) -> BlockHash:
        """Where on the ring a prompt belongs that is held nowhere: the block after what other prompts begin with or all
        replicas hold, as that says nothing.
        """
        num_common_blocks = max(match.shared_blocks, match.blocks_at_all(len(self.replicas)))
        return block_hashes[min(num_common_blocks, len(block_hashes) - 1)]

    def in_ring_order(self, key: BlockHash) -> Iterator[Replica]:
        """Those in the choice, clockwise from the key; found one by one."""
        for rank in self.ring.successors(key):  # of every member: those out of the choice are passed over
            yield from self._rank_to_eligible.get(rank, ())
