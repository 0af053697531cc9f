"""What changes when replicas join, leave or die, and what a router that joins takes over from another one."""

from collections.abc import Iterable

from router.belief.cache_estimates import CacheEstimates
from router.cluster import Cluster
from router.load.health import Health
from router.ring import Ring
from router.state import LearnedState, ReplicaState
from router.types import Replica, ReplicaId


def replace_replicas(
    replicas: Iterable[Replica], cluster: Cluster, estimates: CacheEstimates, health: Health, *, virtual_nodes: int
) -> None:
    """Replace the set of replicas. Those that stay keep their state; of those that are gone, nothing is kept."""
    new = tuple(sorted(replicas, key=lambda replica: (replica.rank, replica.replica_id)))
    kept_ids = {replica.replica_id for replica in new}
    for replica in cluster.replicas:
        if replica.replica_id not in kept_ids:
            _remove(replica.replica_id, cluster, estimates, health)
    for replica in new:
        health.add_replica(replica.replica_id)
        cluster.load.add_replica(replica.replica_id)
        estimates.add_replica(replica)
    cluster.ring = Ring({replica.rank for replica in new}, virtual_nodes=virtual_nodes)
    cluster.set_replicas(new)
    largest_tiers_tokens = (max(replica.kv_capacity_tokens, replica.host_capacity_tokens) for replica in new)
    estimates.seen.grow_to(sum(tokens // cluster.block_size for tokens in largest_tiers_tokens))


def _remove(replica_id: ReplicaId, cluster: Cluster, estimates: CacheEstimates, health: Health) -> None:
    health.remove_replica(replica_id)
    cluster.load.remove_replica(replica_id)
    estimates.remove_replica(replica_id)
    cluster.distrust(cluster.untrusted - {replica_id})


def export_state(cluster: Cluster, replica_id: ReplicaId, *, now: float) -> ReplicaState:
    """Everything that a router knows of one replica, and its part of what belongs to none."""
    load = cluster.load
    return ReplicaState(
        replica_id,
        held=cluster.holders.export(replica_id),
        booked=load.export(replica_id),
        recent_tokens=load[replica_id].recent_tokens,
        recent_requests=load[replica_id].recent_requests,
        progress=load.export_progress(replica_id, now=now),
        held_in_tier=cluster.tiers.export(replica_id),
        engine=load[replica_id].engine,
        computed_since_tokens=load[replica_id].computed_since_tokens,
        learned=_export_learned(cluster, replica_id),
    )


def _export_learned(cluster: Cluster, replica_id: ReplicaId) -> LearnedState:
    """The means that belong to no replica, and one replica's part of the classes of answers, so each is sent once."""
    part = next(index for index, replica in enumerate(cluster.replicas) if replica.replica_id == replica_id)
    return LearnedState(
        cluster.answers.of_all,
        cluster.answers.export_classes(part, num_parts=len(cluster.replicas)),
        continued_tokens=cluster.continuations.expected_tokens,
        found_tokens=cluster.continuations.found_tokens,
        others_share=cluster.lateness.others_share,
        delay_s=cluster.lateness.delay_s,
    )


def adopt_state(cluster: Cluster, estimates: CacheEstimates, state: ReplicaState, *, now: float) -> None:
    """Take over a peer's state of one replica, in addition to what is known here."""
    load, own = cluster.load, cluster.load[state.replica_id]
    # The booked requests are a part of the recent work.
    recent_tokens = max(own.recent_tokens, state.recent_tokens)
    recent_requests = max(own.recent_requests, state.recent_requests)
    if state.learned is not None:
        _adopt_learned(cluster, state.learned)
    _adopt_booked(cluster, state, now=now)
    _adopt_held(cluster, estimates, state)
    load.adopt_progress(state.replica_id, state.progress, now=now)
    load.adopt_engine(state.replica_id, state.engine, computed_since_tokens=state.computed_since_tokens)
    load.add_recent(
        state.replica_id, tokens=recent_tokens - own.recent_tokens, requests=recent_requests - own.recent_requests
    )


def _adopt_learned(cluster: Cluster, learned: LearnedState) -> None:
    cluster.answers.adopt(learned.answers, learned.answer_classes)
    cluster.continuations.adopt(expected_tokens=learned.continued_tokens, found_tokens=learned.found_tokens)
    cluster.lateness.adopt(others_share=learned.others_share, delay_s=learned.delay_s)


def _adopt_booked(cluster: Cluster, state: ReplicaState, *, now: float) -> None:
    for booked in state.booked:
        answer_tokens = booked.answer_tokens
        if answer_tokens is None:
            answer_tokens = cluster.answers.expected_tokens(booked.reservation.request)
        cluster.load.adopt(booked, answer_tokens=answer_tokens, now=now)


def _adopt_held(cluster: Cluster, estimates: CacheEstimates, state: ReplicaState) -> None:
    if cluster.holders.is_exact(state.replica_id):
        for booked in state.booked:
            outstanding = cluster.load.outstanding(booked.reservation.request.request_id)
            if outstanding is not None:
                estimates.computed(outstanding)
    else:
        cluster.holders.adopt(state.replica_id, state.held, cluster.load.use_to_prompt(state.replica_id))
    cluster.tiers.adopt(state.replica_id, state.held_in_tier)
