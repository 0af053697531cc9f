"""What the core's calls are timed on."""

from random import Random

import pytest

from benchmarks.cost import decision_time
from benchmarks.cost.loaded_router import LoadedRouter, Size

SMALL = Size(num_replicas=2, block_size=512)


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a test takes no minute."""
    monkeypatch.setattr(decision_time, "WARM_UP_CALLS", 1)
    monkeypatch.setattr(decision_time, "CALLS", 5)


def test_every_call_is_timed_at_every_size() -> None:
    """Each with its quartiles in order."""
    rows = list(decision_time._calls([SMALL], 1))
    assert [row.call for row in rows] == ["choose, returning", "choose, cold", "on_prefilled", "on_finished"]
    assert all(0 < row.least_us <= row.quartile_1_us <= row.median_us <= row.quartile_3_us for row in rows)


def test_a_prepared_argument_is_used_once() -> None:
    """And what prepares it is not timed."""
    taken: list[int] = []
    numbers = iter(range(100))
    decision_time._row("take", SMALL, 1, taken.append, prepare=lambda: (next(numbers),))
    assert taken == list(range(6))


def test_a_filled_router_has_every_replicas_cache_full_and_requests_under_way() -> None:
    """A returning request finds nine tenths of its prompt, a cold one its tenant's part only."""
    loaded = LoadedRouter(SMALL, prompt_blocks=30, rng=Random(1))
    assert loaded.num_cached_blocks == SMALL.num_replicas * SMALL.capacity_blocks
    returning, cold = loaded.returning(), loaded.cold()
    assert len(returning.block_hashes) == len(cold.block_hashes) == 30
    decisions = [loaded.router.choose(request, now=loaded.now).decision for request in (returning, cold)]
    assert decisions[0].believed_cached_tokens >= 26 * SMALL.block_size > decisions[1].believed_cached_tokens
