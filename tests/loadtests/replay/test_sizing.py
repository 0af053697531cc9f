"""How many replicas are enough."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.experiment import ReplayExperiment
from loadtests.replay.sizing import (
    ReplicaSize,
    SizingAnswer,
    SizingQuestion,
    SizingTrial,
    answer,
    fewest,
    kv_in_all,
    num_replicas,
    smallest,
)
from loadtests.replay.trace import TraceError
from loadtests.replay.workload import ReplayWorkload, own_pace
from tests.loadtests.replay.traces import write_conversations, write_sessions


@given(wanted=st.integers(1, 100), least=st.integers(1, 20), most=st.integers(1, 100))
def test_the_fewest_is_found_in_few_trials(wanted: int, least: int, most: int) -> None:
    """Whatever is enough, within what is allowed; no number is tried twice."""
    most = max(least, most)
    tried: list[int] = []

    def is_enough(number: int) -> bool:
        tried.append(number)
        return number >= wanted

    assert fewest(is_enough, least=least, most=most) == (max(wanted, least) if wanted <= most else None)
    assert len(tried) == len(set(tried)) <= 15
    assert all(least <= number <= most for number in tried)


def make_question(tmp_path: Path, *, p90_ttft_s: float) -> SizingQuestion:
    """Conversations of 123,000 tokens at 40,000 a second, of which a replica prefills 10,000."""
    workload = ReplayWorkload(
        write_conversations(tmp_path / "trace.jsonl"),
        is_closed_loop=False,
        is_spread_evenly=True,
        think_s=1,
        num_copies=1,
        tenants=(),
    )
    experiment = ReplayExperiment(workload, ("prefix_affinity",), (), (1,), 1, 1, 0.005, 2)
    return SizingQuestion(experiment, 40_000, p90_ttft_s, max_replicas=16)


def test_more_replicas_are_needed_for_a_stricter_target(tmp_path: Path) -> None:
    """The answer's trial meets it, and one replica fewer does not or is too few to prefill all."""
    size = ReplicaSize(kv_tokens=100_000, host_tokens=0)
    strict, lax = (answer(make_question(tmp_path, p90_ttft_s=p90_ttft_s), size) for p90_ttft_s in (0.2, 2))
    for target_s, each in ((0.2, strict), (2, lax)):
        assert each.needed is not None
        assert each.needed.p90_ttft_s <= target_s
        fewer = [trial for trial in each.trials if trial.num_replicas == each.needed.num_replicas - 1]
        assert all(trial.p90_ttft_s > target_s for trial in fewer)
    assert strict.needed is not None
    assert lax.needed is not None
    assert lax.needed.num_replicas < strict.needed.num_replicas


def test_a_target_may_be_out_of_reach(tmp_path: Path) -> None:
    """Then there is no answer, but the trials are there."""
    each = answer(make_question(tmp_path, p90_ttft_s=0.001), ReplicaSize(100_000, 0))
    assert each.needed is None
    assert each.trials[-1].num_replicas == 16


def test_a_host_tier_makes_up_for_a_small_cache(tmp_path: Path) -> None:
    """It hits more, so that fewer replicas do."""
    question = make_question(tmp_path, p90_ttft_s=1)
    without, with_host = (answer(question, ReplicaSize(8_000, host)).needed for host in (0, 100_000))
    assert without is not None
    assert with_host is not None
    assert with_host.hit_rate > without.hit_rate
    assert with_host.num_replicas < without.num_replicas


def test_the_smallest_in_replicas_and_in_memory() -> None:
    """Sizes without an answer do not count; of equals, the fewer tokens or replicas."""
    trials = {number: SizingTrial(number, 1, 0.5) for number in (2, 3, 6)}
    answers = [
        SizingAnswer(ReplicaSize(100, 0), (), None),
        SizingAnswer(ReplicaSize(200, 0), (), trials[3]),
        SizingAnswer(ReplicaSize(400, 0), (), trials[2]),
        SizingAnswer(ReplicaSize(350, 0), (), trials[2]),
        SizingAnswer(ReplicaSize(100, 0), (), trials[6]),
    ]
    assert smallest(answers, by=num_replicas) is answers[3]
    assert smallest(answers, by=kv_in_all) is answers[1]
    assert smallest(answers[:1], by=kv_in_all) is None


def test_the_pace_is_the_traces_own_or_given(tmp_path: Path) -> None:
    """48 requests of 123,000 tokens in 69 s; sessions have no times, and say so."""
    path = write_conversations(tmp_path / "trace.jsonl")
    prompt_tokens = 12 * (2 + 4 + 6 + 8) * 512 + 48
    assert own_pace(path, scale=2, requests_per_s=None) == pytest.approx(2 * prompt_tokens / 69)
    assert own_pace(path, scale=1, requests_per_s=4) == pytest.approx(4 * prompt_tokens / 48)
    with pytest.raises(TraceError, match="say how many come a second with --rps"):
        own_pace(write_sessions(tmp_path / "sessions.jsonl"), scale=1, requests_per_s=None)
