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
    members: tuple[Replica, ...] = ()
    """Every replica there is."""
    kv_capacity_tokens: int = 0
    """Of all of them together."""
    replicas: tuple[Replica, ...] = ()
    """Those in the choice."""
    id_to_replica: dict[ReplicaId, Replica] = field(default_factory=dict)
    """The same, by id."""
    rank_to_replicas: dict[int, list[Replica]] = field(default_factory=dict)
    """The same, by rank; two share a rank while one replaces the other."""
    outsiders: tuple[Replica, ...] = ()
    """Members out of the choice."""
    doubted: frozenset[ReplicaId] = frozenset()
    """Members that may not find prompts by the keys that are used here, so that beliefs in them count nothing."""
    credible: Mapping[ReplicaId, Replica] = field(default_factory=dict)
    """Those in the choice whose beliefs count, by id."""

    def set_members(self, members: Iterable[Replica]) -> None:
        """Replace them; all are in the choice."""
        self.members = tuple(members)
        self.kv_capacity_tokens = sum(each.kv_capacity_tokens for each in self.members)
        self.set_choice(())

    def set_choice(self, excluded: Collection[ReplicaId]) -> None:
        """Leave these out, unless nobody would be left: then the evidence is more likely wrong."""
        healthy = tuple(each for each in self.members if each.replica_id not in excluded)
        self.replicas = healthy or self.members
        self.outsiders = tuple(each for each in self.members if each.replica_id in excluded) if healthy else ()
        self.id_to_replica = {each.replica_id: each for each in self.replicas}
        self.set_doubted(self.doubted)
        self.rank_to_replicas = {}
        for replica in self.replicas:
            self.rank_to_replicas.setdefault(replica.rank, []).append(replica)

    def set_doubted(self, doubted: frozenset[ReplicaId]) -> None:
        """Count what all members are believed to hold, but not these."""
        self.doubted = doubted
        self.credible = self.id_to_replica
        if doubted:
            self.credible = {each: replica for each, replica in self.id_to_replica.items() if each not in doubted}

    def in_choice(self, replica_ids: Iterable[ReplicaId]) -> Iterator[Replica]:
        """Those of them that are in the choice."""
        return (self.id_to_replica[each] for each in replica_ids if each in self.id_to_replica)

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
        """Sequences without a first token, for each replica in the choice."""
        num_outside = sum(self.load_of(replica).num_waiting for replica in self.outsiders)
        return (self.load.total.num_waiting - num_outside) / len(self.replicas)

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
        if replica.replica_id in self.doubted:
            return CachedTokens(self._doubted_tokens(replica, request), 0)
        local_tokens = self.reusable_tokens(request, held.num_blocks)
        if held.num_answer_blocks:
            local_tokens += int(self.continuations.share * self.answer_tokens(replica, request, held))
        if not self.tiers.is_proven(replica.replica_id):
            return CachedTokens(local_tokens, 0)
        return CachedTokens(local_tokens, self._external_tokens(replica, request, local_tokens))

    def answer_tokens(self, replica: Replica, request: RouteRequest, held: Held) -> int:
        """Prompt tokens beyond the blocks held that are an earlier answer's, if the prompt goes on with it."""
        if replica.replica_id in self.doubted:
            return 0
        num_blocks = held.num_blocks + held.num_answer_blocks
        return self.reusable_tokens(request, num_blocks) - self.reusable_tokens(request, held.num_blocks)

    def cached_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """The same, of both tiers together."""
        return self.cached(replica, request).total

    def reload_s(self, cached: CachedTokens) -> float:
        """How long it takes until what is in the second tier is back."""
        return cached.external / self.host_tokens_per_s

    def _doubted_tokens(self, replica: Replica, request: RouteRequest) -> int:
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
        local_blocks = self.holders.match(request.block_hashes).best_blocks(self.credible)
        best_tokens = self.reusable_tokens(request, local_blocks)
        for step in reversed(self.tiers.match(request.block_hashes).steps):
            holders = [self.credible[each] for each in step.run.holder_to_use if each in self.credible]
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
        num_common_blocks = max(match.shared_blocks, match.blocks_at_all(len(self.members)))
        return block_hashes[min(num_common_blocks, len(block_hashes) - 1)]

    def in_ring_order(self, key: BlockHash) -> Iterator[Replica]:
        """Those in the choice, clockwise from the key; found one by one."""
        for rank in self.ring.successors(key):  # of every member: those out of the choice are passed over
            yield from self.rank_to_replicas.get(rank, ())
