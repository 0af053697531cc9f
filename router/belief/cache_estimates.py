"""The estimates of caches, as requests go by: what a prompt leaves behind, and what an engine's reuse says of it."""

from router.belief.holders import Placed
from router.belief.missing import MissingBlocks
from router.belief.seen import Seen
from router.cluster import Cluster
from router.keys.blocks import unknown_hashes
from router.load.outstanding import Outstanding
from router.types import Replica, ReplicaId


class CacheEstimates:
    """Writes a cluster's `holders`, `tiers`, `reuse` and `continuations`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._missing = MissingBlocks()
        self.seen = Seen()

    # The replicas

    def add_replica(self, replica: Replica) -> None:
        """Start to estimate a replica's caches, or resize them."""
        cluster = self._cluster
        capacity_blocks = replica.kv_capacity_tokens // cluster.block_size
        cluster.holders.add_replica(replica.replica_id, capacity_blocks=capacity_blocks)
        host_blocks = replica.host_capacity_tokens // cluster.block_size
        cluster.tiers.set_capacity(replica.replica_id, capacity_blocks=host_blocks)

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Forget a replica's caches, but remember which prefixes went away with it."""
        cluster = self._cluster
        self.seen.on_gone(cluster.holders.export(replica_id))
        cluster.holders.remove_replica(replica_id)
        cluster.reuse.forget(replica_id)
        cluster.tiers.remove(replica_id)
        self._missing.forget(replica_id)

    def reset(self) -> None:
        """Every engine has dropped its cached prefixes; second tiers keep theirs."""
        for replica in self._cluster.replicas:
            self.seen.on_gone(self._cluster.holders.export(replica.replica_id))
        self._cluster.holders.clear()

    # The requests

    def placed(self, outstanding: Outstanding) -> None:
        """A request was sent to its replica, which will have the prompt's blocks cached."""
        cluster, reservation = self._cluster, outstanding.reservation
        replica_id, block_hashes = reservation.replica_id, reservation.request.block_hashes
        outstanding.last_uses = cluster.holders.last_uses(replica_id, block_hashes)
        outstanding.tier_blocks = cluster.tiers.matched_blocks(replica_id, block_hashes)
        work = Placed(cluster.load.stored(cluster.load.work(reservation)), cluster.load.mean_stored_tokens)
        cluster.holders.insert(replica_id, block_hashes, use=outstanding.use, placed=work)

    def withdrawn(self, outstanding: Outstanding) -> None:
        """A request is not at this replica, but at another one."""
        if not self._keep_stored(outstanding) and outstanding.is_waiting:
            self._discard_uncomputed(outstanding)
        self._cluster.holders.end_use(outstanding.reservation.replica_id, outstanding.use)

    def reused(self, outstanding: Outstanding, *, cached_tokens: int, external_tokens: int) -> None:
        """An engine has computed a request's prompts, and has reused these tokens of them.

        `external_tokens` are the part of `cached_tokens` that came from the second tier.
        """
        local_tokens = cached_tokens - external_tokens
        self._learn_tier(outstanding, local_tokens=local_tokens, external_tokens=external_tokens)
        if outstanding.reservation.replica_id in self._cluster.untrusted:
            return  # the reuse of an untrusted engine says nothing of its cache
        self._learn_continuation(outstanding, local_tokens)
        is_exact = self._cluster.holders.is_exact(outstanding.reservation.replica_id)
        if outstanding.reservation.is_computed and not is_exact:
            self._evict_missing(outstanding, local_tokens)

    def computed(self, outstanding: Outstanding) -> None:
        """A request's prompts are computed: their blocks are cached, and in use until the request is over."""
        replica_id = outstanding.reservation.replica_id
        block_hashes = outstanding.reservation.request.block_hashes
        self._cluster.tiers.on_computed(replica_id, block_hashes)
        self._cluster.holders.insert(replica_id, block_hashes, use=outstanding.use)

    def finished(self, outstanding: Outstanding, *, answer_tokens: int) -> None:
        """A request is over. Its blocks can be evicted from now on, as the last used ones."""
        if not self._keep_stored(outstanding):
            if outstanding.is_waiting:
                self._discard_uncomputed(outstanding)
            else:
                self._cache_answer(outstanding, answer_tokens)
        self._cluster.holders.end_use(outstanding.reservation.replica_id, outstanding.use)

    def _keep_stored(self, outstanding: Outstanding) -> bool:
        """Keep of an ended prompt the blocks that its exact replica has stored. False if the replica is not exact."""
        reservation, holders = outstanding.reservation, self._cluster.holders
        if not holders.is_exact(reservation.replica_id):
            return False
        holders.keep_stored(reservation.replica_id, reservation.request.block_hashes, use=outstanding.use)
        return True

    def _discard_uncomputed(self, outstanding: Outstanding) -> None:
        """Discard promised blocks that were never computed, unless another request promises them, too."""
        reservation = outstanding.reservation
        self._cluster.holders.discard_after(
            reservation.replica_id,
            reservation.request.block_hashes,
            num_kept=reservation.num_held_blocks,
            use=outstanding.use,
        )

    def _cache_answer(self, outstanding: Outstanding, answer_tokens: int) -> None:
        """A prompt and its answer are cached. An answer's last token is never computed."""
        request, block_size = outstanding.reservation.request, self._cluster.block_size
        num_tokens = request.num_prompt_tokens + max(0, answer_tokens - 1)
        num_answer_blocks = num_tokens // block_size - len(request.block_hashes)
        self._cluster.holders.insert_answer(
            outstanding.reservation.replica_id,
            request.block_hashes,
            unknown_hashes(request.request_id, num_answer_blocks),
        )

    def _learn_tier(self, outstanding: Outstanding, *, local_tokens: int, external_tokens: int) -> None:
        """Compare the tokens that came from a second tier with the expected ones.

        Also for an untrusted replica: what came was found, and only what was computed there is expected.
        """
        tiers, replica_id = self._cluster.tiers, outstanding.reservation.replica_id
        if external_tokens and not tiers.is_proven(replica_id):
            tiers.prove(replica_id, self._cluster.holders.export(replica_id))
        tier_tokens = self._cluster.reusable_tokens(outstanding.reservation.request, outstanding.tier_blocks)
        expected_tokens = max(0, tier_tokens - local_tokens)
        tiers.learn(replica_id, expected_tokens=expected_tokens, external_tokens=external_tokens)

    def _learn_continuation(self, outstanding: Outstanding, local_tokens: int) -> None:
        """Compare the reused tokens of an earlier answer with the expected ones."""
        reservation = outstanding.reservation
        if reservation.answer_tokens:
            block_tokens = self._cluster.reusable_tokens(reservation.request, reservation.num_held_blocks)
            self._cluster.continuations.learn(
                expected_tokens=reservation.answer_tokens, found_tokens=max(0, local_tokens - block_tokens)
            )

    def _evict_missing(self, outstanding: Outstanding, local_tokens: int) -> None:
        """Evict what the engine must have evicted, where it reused less than was estimated to be cached."""
        last_uses = outstanding.last_uses
        if last_uses is None:
            return
        reservation, cluster = outstanding.reservation, self._cluster
        estimated_tokens = cluster.reusable_tokens(reservation.request, last_uses.cached_blocks)
        num_lost_blocks = max(0, estimated_tokens - local_tokens) // cluster.block_size
        num_found_blocks = local_tokens // cluster.block_size if num_lost_blocks else last_uses.cached_blocks
        gone_before = self._missing.gone_before(reservation.replica_id, last_uses, num_found_blocks=num_found_blocks)
        if gone_before is not None:
            cluster.holders.evict_before(reservation.replica_id, gone_before)
