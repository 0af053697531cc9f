"""The replicas: those that are there, that join, and that leave."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import count
from typing import NamedTuple

from loadtests.replay.agenda import Agenda
from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.lives import ReplicaLife
from loadtests.replay.processes import ReceiptBatch, ReplicaProcess
from loadtests.replay.results import CacheSample
from router import BlockHash, Replica, ReplicaId, RequestId


class ChangeKind(StrEnum):
    """What can happen to a rank."""

    JOIN = "join"
    """A replica with an empty cache; also the replacement of one that left or crashed."""
    LEAVE = "leave"
    """It finishes what it has, gets nothing new once the routers know, and goes."""
    CRASH = "crash"
    """It is gone at once, with its requests and its cache."""


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """One replica that joins, leaves or crashes."""

    at_s: float
    change: ChangeKind
    rank: int


class ToldCapacity(NamedTuple):
    """Capacities in tokens, in place of the true ones where they are not None."""

    kv_tokens: int | None = None
    host_tokens: int | None = None
    """Capacity of the second tier."""


TRUTH = ToldCapacity()


class Fleet:
    """Every replica of a run.

    Args:
        options: of every engine that has none of its own.
        block_size: of their caches, in tokens.
        agenda: where their steps and heartbeats are planned.
        heartbeat_s: how often each says what it has.
        send: takes what they say.
        is_telling: whether they send KV events too.
        told: the capacities that routers are told each has.
        rank_to_options: of the engines that have their own.

    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        block_size: int,
        agenda: Agenda,
        heartbeat_s: float,
        send: Callable[[ReceiptBatch], None],
        is_telling: bool = False,
        told: ToldCapacity = TRUTH,
        rank_to_options: Mapping[int, EngineOptions] | None = None,
    ) -> None:
        self._options = options
        self._rank_to_options = rank_to_options or {}
        self._block_size = block_size
        self._agenda = agenda
        self._heartbeat_s = heartbeat_s
        self._send = send
        self._is_telling = is_telling
        self._told = told
        self._numbers = count()
        self._everyone: dict[ReplicaId, ReplicaProcess] = {}
        self._running: dict[ReplicaId, ReplicaProcess] = {}
        self._draining: set[ReplicaId] = set()
        self.lives: dict[ReplicaId, ReplicaLife] = {}
        self.members: tuple[Replica, ...] = ()
        """The members as the cluster knows them at once, and the routers later."""

    def join(self, rank: int, *, first_beat_s: float) -> None:
        """A new replica, with an id of its own; the first ones are numbered as they join."""
        replica_id = ReplicaId(f"replica-{next(self._numbers)}")
        options = self._rank_to_options.get(rank, self._options)
        process = ReplicaProcess(
            replica_id,
            Engine(options, block_size=self._block_size),
            self._agenda,
            self._send,
            is_telling=self._is_telling,
        )
        self._everyone[replica_id] = self._running[replica_id] = process
        self.lives[replica_id] = ReplicaLife(self._agenda.now_s)
        self.members += (self._as_told(replica_id, rank, options),)
        self._agenda.after(first_beat_s, partial(self._beat, process))

    def leave(self, rank: int, *, known_after_s: float) -> None:
        """The replica of a rank finishes what it has, and what comes until every router knows."""
        replica_id = self._remove_member(rank)
        self._agenda.after(known_after_s, partial(self._draining.add, replica_id))

    def crash(self, rank: int) -> tuple[RequestId, ...]:
        """The replica of a rank is gone; returns the requests that broke off."""
        replica_id = self._remove_member(rank)
        self.lives[replica_id].gone_s = self._agenda.now_s
        return self._running.pop(replica_id).crash()

    def processes(self) -> tuple[ReplicaProcess, ...]:
        """The members' processes."""
        return tuple(self._running[member.replica_id] for member in self.members)

    def find(self, replica_id: ReplicaId) -> ReplicaProcess | None:
        """The process of a replica; None if it is gone."""
        return self._running.get(replica_id)

    def engine_of(self, replica_id: ReplicaId) -> Engine:
        """The engine of a replica, also of one that is gone."""
        return self._everyone[replica_id].engine

    def sample_caches(self) -> CacheSample:
        """The members' cached blocks now."""
        caches = [process.engine.cache for process in self.processes()]
        distinct = set[BlockHash]().union(*(cache.block_hashes() for cache in caches))
        return CacheSample(self._agenda.now_s, sum(map(len, caches)), len(distinct))

    def computed_tokens(self) -> dict[ReplicaId, int]:
        """Computed tokens of every replica that ever was."""
        return {replica_id: process.engine.num_computed_tokens for replica_id, process in self._everyone.items()}

    def _as_told(self, replica_id: ReplicaId, rank: int, options: EngineOptions) -> Replica:
        kv_tokens, host_tokens = self._told
        return Replica(
            replica_id,
            rank,
            kv_capacity_tokens=options.kv_capacity_tokens if kv_tokens is None else kv_tokens,
            host_capacity_tokens=options.host_capacity_tokens if host_tokens is None else host_tokens,
        )

    def _beat(self, process: ReplicaProcess) -> None:
        if process.replica_id in self._draining and process.is_idle:
            self._running.pop(process.replica_id)
            self.lives[process.replica_id].gone_s = self._agenda.now_s
        if process.replica_id in self._running:
            process.beat()
            self._agenda.after(self._heartbeat_s, partial(self._beat, process))

    def _remove_member(self, rank: int) -> ReplicaId:
        leaving = next((each for each in self.members if each.rank == rank), None)
        if leaving is None:
            raise ValueError(f"no replica of rank {rank} is there to leave: name one that joined before")
        if len(self.members) == 1:
            raise ValueError(f"the last replica, of rank {rank}, cannot go: let another join first")
        self.members = tuple(each for each in self.members if each is not leaving)
        self.lives[leaving.replica_id].left_s = self._agenda.now_s
        return leaving.replica_id
