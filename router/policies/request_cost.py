"""The cost of a request at each replica: the time that a placement costs everyone.

cost = the time until its first token there: the work that goes first, and its own uncached tokens times their weight
     + others * its slowdown of the sequences that are decoded there, and theirs of it, until its answer is complete
     + the time that it would wait for memory there

In seconds, by the engine's model and the replica's own speed. The weight of an uncached token counts its later costs
beside its own time. Computing it evicts a token that would have been used again, and the faster a replica's cache turns
over, the sooner; by the square root, as what has not been used for long is used again more rarely. And the requests
behind it wait longer, the more sequences wait.

weight = 1 + evictions * sqrt(the replica's recent work for its KV capacity, to that of all)
           + per_waiting * (mean waiting sequences a replica)

Waiting prompts go by length, the shortest first. So the part by which the waiting prompts are longer counts the less,
the more sequences wait. A request for several answers is as many sequences, whose prompt is computed once.

Tokens that other prompts begin with as well are no loss when they are computed: those prompts will find them there.
"""

import math
from dataclasses import dataclass

from router.cluster import PRIOR_WORK_SHARE, Cluster
from router.load.table import ReplicaLoad
from router.types import Replica, RouteRequest


@dataclass(frozen=True, slots=True)
class CostWeights:
    """The weights of the cost, chosen by replay; docs/measurements/decision.md says what each is worth."""

    evictions: float = 3.0
    """Weight of an uncached token for its evictions, at a replica whose cache turns over as fast as the mean."""
    per_waiting: float = 2.0
    """Weight of an uncached token for each waiting sequence a replica."""
    shared: float = 0.5
    """Weight of an uncached token that other prompts begin with, too."""
    others: float = 0.05
    """Weight of a second by which answers take longer; a second until a first token has 1."""
    memory: float = 1.0
    """Weight of a second of waiting for memory."""
    tie_s: float = 0.001
    """Costs that differ by less are equal, in seconds, as routers do not count alike to the last digit."""
    unseen: float = 1.0
    """Weight of the work that other routers have placed and that is not known here yet."""
    session: float = 0.5
    """Share of a prompt without a key that is taken to be cached at its session's place on the ring."""


class RequestCost:
    """The cost of one request, at this moment, at any replica.

    Args:
        request: the request.
        cluster: the state on which the decision is made.
        shared_blocks: leading blocks of the prompt that other prompts begin with as well.
        weights: the weights of the cost's terms.
        session_owner: the replica that probably has a part of a prompt without a key; None for other prompts.

    """

    def __init__(
        self,
        request: RouteRequest,
        cluster: Cluster,
        *,
        shared_blocks: int,
        weights: CostWeights,
        session_owner: Replica | None,
    ) -> None:
        self._request = request
        self._cluster = cluster
        self._weights = weights
        self._model = cluster.engine_model
        self._answer_tokens = cluster.answers.expected_tokens(request)
        self._all_answers_tokens = request.num_sequences * self._answer_tokens
        self._context_tokens = request.num_prompt_tokens / request.num_prompts + self._answer_tokens / 2
        self._shared_tokens = cluster.reusable_tokens(request, shared_blocks)
        mean_waiting = cluster.mean_waiting
        self._waiting_weight = weights.per_waiting * mean_waiting
        self._overtaking_weight = mean_waiting / (1 + mean_waiting)
        self._evictions_weight = weights.evictions / math.sqrt(cluster.mean_work_share)
        self._session_owner = session_owner
        self._uncached_to_prefill_s: dict[float, tuple[float, float]] = {}

    def at(self, replica: Replica, *, remaining_s: float, speed: float) -> float:
        """Cost at a replica of this speed, where computing the pending prompts takes `remaining_s`; in seconds."""
        cluster, load = self._cluster, self._cluster.load_of(replica)
        cached = cluster.cached(replica, self._request)
        uncached_tokens: float = self._request.num_prompt_tokens - cached.total
        if replica == self._session_owner:
            uncached_tokens *= 1 - self._weights.session
        prefill_s, shared_s = self._prefill_s(uncached_tokens)
        weighted_s = (
            self._weight(cluster.work_share(replica)) * (prefill_s - shared_s) + self._weights.shared * shared_s
        )
        others_s = self._weights.others * (self._slowdown_s(load) + load.num_running * prefill_s)
        memory_s = self._memory_s(replica, load, uncached_tokens)
        wait_s = self.wait_s(replica, remaining_s, prefill_s)
        return wait_s + cluster.reload_s(cached) + (weighted_s + others_s + memory_s) / speed

    def wait_s(self, replica: Replica, remaining_s: float, prefill_s: float) -> float:
        """The remaining work there, less what the request overtakes, in seconds.

        Overtaken work keeps the replica busy while others may be idle, so it counts the more, the fewer wait.
        """
        return remaining_s - self._overtaking_weight * self._cluster.overtaken_s(replica, prefill_s=prefill_s)

    def least_prefill_s(self, cached_blocks: int) -> tuple[float, float]:
        """The prefill time with at most these leading blocks cached, plain and with the smallest possible weight.

        In seconds at the model's speed.
        """
        uncached_tokens = self._request.num_prompt_tokens - self._cluster.reusable_tokens(self._request, cached_blocks)
        prefill_s, shared_s = self._prefill_s(uncached_tokens)
        return prefill_s, self._weight(PRIOR_WORK_SHARE) * (prefill_s - shared_s) + self._weights.shared * shared_s

    def _weight(self, work_share: float) -> float:
        """Weight of an uncached token that no other prompt begins with."""
        return 1 + self._waiting_weight + self._evictions_weight * math.sqrt(work_share)

    def _prefill_s(self, uncached_tokens: float) -> tuple[float, float]:
        """Prefill time of the prompt's last tokens, and of those among them that other prompts begin with, too.

        Candidates with the same blocks cached have the same times.
        """
        known = self._uncached_to_prefill_s.get(uncached_tokens)
        if known is None:
            num_before = self._request.num_prompt_tokens - uncached_tokens
            shared_tokens = max(0.0, min(self._shared_tokens - num_before, uncached_tokens))
            known = self._uncached_to_prefill_s[uncached_tokens] = (
                self._model.prefill_s(uncached_tokens, num_before=num_before),
                self._model.prefill_s(shared_tokens, num_before=num_before),
            )
        return known

    def _slowdown_s(self, load: ReplicaLoad) -> float:
        """Time that the sequences there add to the steps of its answers, and that it adds to all of theirs."""
        num_others = load.num_sequences
        context_tokens = load.context_tokens + num_others * self._context_tokens
        return self._all_answers_tokens * self._model.decode_step_s(2 * num_others, context_tokens=context_tokens)

    def _memory_s(self, replica: Replica, load: ReplicaLoad, uncached_tokens: float) -> float:
        """Time of waiting for memory, where the outstanding requests grow beyond the KV cache.

        It is a second, and the share of an answer's time by which they exceed it: the engine lets prompts wait for a
        stream to end, or preempts one.
        """
        capacity_tokens = replica.kv_capacity_tokens
        excess_tokens = load.kv_tokens + uncached_tokens + self._all_answers_tokens - capacity_tokens
        if excess_tokens <= 0:
            return 0.0
        decoding_s = self._model.decode_step_s(load.num_running, context_tokens=load.context_tokens)
        answer_s = self._answer_tokens * (self._model.step_s + decoding_s)
        return self._weights.memory * (1 + min(1.0, excess_tokens / max(1, capacity_tokens)) * answer_s)
