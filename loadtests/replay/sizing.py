"""How many replicas, of which KV size, with or without a tier in host memory, meet a target: found by replaying."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from statistics import fmean

from loadtests.replay.bounds import infinite_hit_rate
from loadtests.replay.experiment import ReplayCase, ReplayExperiment, run_case
from loadtests.replay.parallel import run_all
from loadtests.replay.workload import make_requests


@dataclass(frozen=True, slots=True)
class SizingQuestion:
    """The target, and what is varied to meet it."""

    experiment: ReplayExperiment
    """The experiment with one policy; its number of replicas, cache sizes and loads are varied."""
    prompt_tokens_per_s: float
    p90_ttft_s: float
    """The target: of ten requests, nine have their first token by then."""
    max_replicas: int


@dataclass(frozen=True, slots=True)
class ReplicaSize:
    """The caches of each replica."""

    kv_tokens: int
    host_tokens: int


@dataclass(frozen=True, slots=True)
class SizingTrial:
    """One number of replicas, replayed; means over the seeds."""

    num_replicas: int
    p90_ttft_s: float
    hit_rate: float


@dataclass(frozen=True, slots=True)
class SizingAnswer:
    """The answer for one size."""

    size: ReplicaSize
    trials: tuple[SizingTrial, ...]
    """The trials by number of replicas."""
    needed: SizingTrial | None
    """The trial with the fewest replicas that meet the target; None where the most allowed do not."""


def answer_all(
    question: SizingQuestion, sizes: Sequence[ReplicaSize], *, num_jobs: int, on_done: Callable[[], None]
) -> list[SizingAnswer]:
    """An answer for each size.

    Raises:
        TraceError: the trace cannot be used, or not so.

    """
    return run_all(partial(answer, question), sizes, num_jobs=num_jobs, on_done=on_done)


def answer(question: SizingQuestion, size: ReplicaSize) -> SizingAnswer:
    """Twice as many replicas until it is enough, then by halves: more replicas are taken never to be worse.

    The first trial has as many as can prefill what not even an infinite cache saves: with fewer, queues only grow.
    """
    tried: dict[int, SizingTrial] = {}

    def is_enough(num_replicas: int) -> bool:
        if num_replicas not in tried:
            tried[num_replicas] = _try(question, size, num_replicas)
        return tried[num_replicas].p90_ttft_s <= question.p90_ttft_s

    enough = fewest(is_enough, least=_least_replicas(question), most=question.max_replicas)
    trials = tuple(tried[num_replicas] for num_replicas in sorted(tried))
    return SizingAnswer(size, trials, None if enough is None else tried[enough])


def fewest(is_enough: Callable[[int], bool], *, least: int, most: int) -> int | None:
    """The least number from `least` to `most` that is enough, if every larger one is, too; None where none is."""
    too_few, enough = least - 1, least
    while not is_enough(enough):
        if enough == most:
            return None
        too_few, enough = enough, min(2 * enough, most)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return enough


def smallest(answers: Sequence[SizingAnswer], *, by: Callable[[SizingAnswer], tuple[int, int]]) -> SizingAnswer | None:
    """The smallest answer that meets the target; None where none does."""
    return min((each for each in answers if each.needed is not None), key=by, default=None)


def num_replicas(answered: SizingAnswer) -> tuple[int, int]:
    """The replicas of an answer that meets the target, then their KV."""
    assert answered.needed is not None
    return answered.needed.num_replicas, answered.size.kv_tokens


def kv_in_all(answered: SizingAnswer) -> tuple[int, int]:
    """The KV of all replicas of an answer that meets the target, then their number."""
    assert answered.needed is not None
    return answered.needed.num_replicas * answered.size.kv_tokens, answered.needed.num_replicas


def _least_replicas(question: SizingQuestion) -> int:
    experiment = question.experiment
    asked = make_requests(
        experiment.workload, prompt_tokens_per_s=question.prompt_tokens_per_s, seed=experiment.seeds[0]
    )
    computed_share = 1 - infinite_hit_rate(asked.requests, block_size=asked.block_size)
    least = ceil(question.prompt_tokens_per_s * computed_share / experiment.engine.prefill_tokens_per_s)
    return min(max(least, 1), question.max_replicas)


def _try(question: SizingQuestion, size: ReplicaSize, num_replicas: int) -> SizingTrial:
    sizes = {"kv_capacity_tokens": size.kv_tokens, "host_capacity_tokens": size.host_tokens}
    engine = question.experiment.engine.model_copy(update=sizes)
    load = question.prompt_tokens_per_s / (num_replicas * engine.prefill_tokens_per_s)
    experiment = replace(question.experiment, num_replicas=num_replicas, engine=engine, loads=(load,))
    summaries = [
        run_case(experiment, ReplayCase(experiment.policies[0], load, seed)).summary for seed in experiment.seeds
    ]
    return SizingTrial(
        num_replicas,
        p90_ttft_s=fmean(summary.p90_ttft_s for summary in summaries),
        hit_rate=fmean(summary.hit_rate for summary in summaries),
    )
