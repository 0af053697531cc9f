"""The load of each replica, the load of all replicas, and the order from the least loaded one on.

Recent work is remembered because paced clients leave nothing outstanding between two turns. By pending work alone, a
replica that gets every conversation would look as idle as the others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isclose
from operator import sub
from typing import NamedTuple

from router.load.fading import Fading
from router.load.order import LoadKey, LoadOrder
from router.types import EngineLoad, ReplicaId


class LoadChange(NamedTuple):
    """An amount that is added to a load or taken away; the fields are those of `ReplicaLoad`.

    Prompts are computed once for all their answers. All else counts for each sequence, so one request for ten answers
    counts as much as ten requests for one.
    """

    pending_tokens: int = 0
    pending_s: float = 0.0
    num_waiting: int = 0
    num_running: int = 0
    waiting_answer_tokens: float = 0.0
    running_answer_tokens: float = 0.0
    running_prompt_tokens: int = 0
    num_requests: int = 0

    def since(self, before: "LoadChange") -> "LoadChange":
        """The difference to an earlier amount."""
        return LoadChange._make(map(sub, self, before))


@dataclass(slots=True)
class ReplicaLoad:
    """The outstanding work at one replica, or at all replicas together."""

    fading: Fading
    pending_tokens: int = 0
    """Prefill tokens that are not computed yet, of all requests that were sent there."""
    num_waiting: int = 0
    """Sequences without a first token."""
    num_running: int = 0
    """Sequences that are being decoded."""
    pending_s: float = 0.0
    """Time of the pending tokens at the model's speed, in seconds."""
    waiting_answer_tokens: float = 0.0
    """Expected answer tokens of the sequences that wait."""
    running_answer_tokens: float = 0.0
    """Expected answer tokens of the sequences that are being decoded, in whole."""
    running_prompt_tokens: int = 0
    """Prompt tokens of the sequences that are being decoded. A shared prompt counts for each, as each reads it."""
    num_requests: int = 0
    """Outstanding requests, waiting or running, of however many sequences."""
    stored_recent_tokens: float = 0.0
    """`recent_tokens`, as `Fading` stores it."""
    stored_recent_requests: float = 0.0
    """`recent_requests`, as `Fading` stores it."""
    engine: EngineLoad | None = None
    """The last numbers that the engine told of itself; None if it told none."""
    computed_since_tokens: int = 0
    """Prompt tokens computed since the engine told its numbers."""

    def add(self, change: LoadChange) -> None:
        """Change the load. Where it becomes nothing, the remainders of rounding go."""
        (
            tokens,
            seconds,
            num_waiting,
            num_running,
            waiting_answer_tokens,
            running_answer_tokens,
            prompt_tokens,
            num_requests,
        ) = change
        self.pending_tokens += tokens
        self.num_waiting += num_waiting
        self.num_running += num_running
        self.running_prompt_tokens += prompt_tokens
        self.num_requests += num_requests
        if self.num_waiting:
            self.pending_s += seconds
            self.waiting_answer_tokens += waiting_answer_tokens
        else:
            self.pending_s = self.waiting_answer_tokens = 0.0
        if self.num_running:
            self.running_answer_tokens += running_answer_tokens
        else:
            self.running_answer_tokens = 0.0

    @property
    def num_sequences(self) -> int:
        """Outstanding sequences, waiting or running."""
        return self.num_waiting + self.num_running

    @property
    def context_tokens(self) -> float:
        """Tokens in the contexts that are being decoded; on average, half of an answer is there."""
        return self.running_prompt_tokens + self.running_answer_tokens / 2

    @property
    def kv_tokens(self) -> float:
        """KV cache that the outstanding requests take or will take, in tokens.

        As far as the engine told, tokens that requests share count once.
        """
        growth_tokens = self.pending_tokens + self.waiting_answer_tokens + self.running_answer_tokens / 2
        if self.engine is None:
            return self.context_tokens + growth_tokens
        return self.engine.kv_used_tokens + self.computed_since_tokens + growth_tokens

    @property
    def recent_tokens(self) -> float:
        """Work that was sent there lately, in prefill tokens, with the pending work; fades."""
        return self.fading.faded(self.stored_recent_tokens)

    @property
    def recent_requests(self) -> float:
        """Requests that this work was; fades."""
        return self.fading.faded(self.stored_recent_requests)


class LoadTable:
    """The loads, their total and their order, which change together.

    Args:
        half_life_s: the time in which recent work fades by half.

    """

    def __init__(self, *, half_life_s: float) -> None:
        self._fading = Fading(half_life_s=half_life_s)
        self._loads: dict[ReplicaId, ReplicaLoad] = {}
        self._order = LoadOrder()
        self.total = ReplicaLoad(self._fading)

    @property
    def least_loaded_first(self) -> Iterable[ReplicaId]:
        """Every replica, by pending tokens, then sequences being decoded, then recent work."""
        return self._order

    def __getitem__(self, replica_id: ReplicaId) -> ReplicaLoad:
        return self._loads[replica_id]

    def add(self, replica_id: ReplicaId) -> ReplicaLoad:
        """Add a replica. Returns its load, which stays the same object."""
        load = self._loads[replica_id] = ReplicaLoad(self._fading)
        self._order.put(self._key(replica_id))
        return load

    def remove(self, replica_id: ReplicaId) -> None:
        """Remove a replica, at which nothing is outstanding."""
        self._order.discard(replica_id)
        del self._loads[replica_id]
        self._sum_recent()

    def fade(self, *, now: float) -> float | None:
        """Let recent work fade up to now. Returns the factor for all stored amounts where an epoch ends, else None."""
        factor = self._fading.advance(now=now)
        if factor is not None:
            for replica_id, load in self._loads.items():
                load.stored_recent_tokens *= factor
                load.stored_recent_requests *= factor
                self._order.put(self._key(replica_id))
            self._sum_recent()
        return factor

    def change(self, replica_id: ReplicaId, change: LoadChange) -> None:
        """Change the load of a replica."""
        self._change(replica_id, change)
        self._order.put(self._key(replica_id))

    def book(self, replica_id: ReplicaId, change: LoadChange, *, tokens: float) -> None:
        """Add a request to the load of a replica, and its `tokens` of work to the recent work."""
        self._change(replica_id, change)
        self.add_recent(replica_id, tokens=tokens, requests=1)

    def add_recent(self, replica_id: ReplicaId, *, tokens: float, requests: float) -> None:
        """Add to the recent work of a replica, as of the last `fade`."""
        stored_tokens, stored_requests = self._fading.stored(tokens), self._fading.stored(requests)
        for load in (self._loads[replica_id], self.total):
            load.stored_recent_tokens += stored_tokens
            load.stored_recent_requests += stored_requests
        self._order.put(self._key(replica_id))

    def stored(self, amount: float) -> float:
        """An amount of now, in the units of stored amounts that fade."""
        return self._fading.stored(amount)

    def _change(self, replica_id: ReplicaId, change: LoadChange) -> None:
        self._loads[replica_id].add(change)
        self.total.add(change)

    def _sum_recent(self) -> None:
        """Sum the recent work again. After a subtraction, the rounding error of a large amount would look like work."""
        self.total.stored_recent_tokens = sum(load.stored_recent_tokens for load in self._loads.values())
        self.total.stored_recent_requests = sum(load.stored_recent_requests for load in self._loads.values())

    def _key(self, replica_id: ReplicaId) -> LoadKey:
        load = self._loads[replica_id]
        return LoadKey(load.pending_tokens, load.num_running, load.stored_recent_tokens, replica_id)

    def check_integrity(self) -> None:
        """Assert that the total and the order are those of the loads."""
        self._order.check_integrity()
        assert list(self._order) == sorted(self._loads, key=self._key)
        summed_names = (*LoadChange._fields, "recent_tokens", "recent_requests")
        for name in summed_names:
            summed = sum(getattr(load, name) for load in self._loads.values())
            assert isclose(getattr(self.total, name), summed, rel_tol=1e-6, abs_tol=1e-6), name
