"""Our totals against vLLM's: what differs, and what of it cannot be explained."""

import pytest

from benchmarks.harness.snapshots import NOT_LOOKED_UP, EngineTotals
from tests.agreement import Counted, Difference, compare
from tests.engine_counters import CacheCounters


@pytest.mark.parametrize(
    ("ours", "vllms", "uncounted", "relative", "unexplained", "is_small"),
    [
        (1000, 1000, 0, 0, 0, True),
        (9990, 10_000, 0, 0.001, 0.001, True),
        (9989, 10_000, 0, 0.0011, 0.0011, False),
        (9000, 10_000, 1000, 0.1, 0, True),
        (9000, 10_000, 5000, 0.1, 0, True),
        (9000, 10_000, 900, 0.1, 0.01, False),
        # We cannot have counted what vLLM did not: no uncounted token explains that.
        (10_100, 10_000, 5000, -0.01, -0.01, False),
        (0, 0, 0, 0, 0, True),
        (5, 0, 0, -5, -5, False),
    ],
)
def test_uncounted_tokens_explain_what_vllm_counted_besides(
    *, ours: int, vllms: int, uncounted: int, relative: float, unexplained: float, is_small: bool
) -> None:
    """Up to as many as there are, and in one direction only."""
    difference = Difference(ours, vllms, uncounted)
    assert difference.relative == pytest.approx(relative)
    assert difference.unexplained == pytest.approx(unexplained)
    assert difference.is_small is is_small


def totals(
    prompt: int = 1000, cached: int = 500, *, looked_up: int | None = None, hit: int | None = None, **uncounted: int
) -> EngineTotals:
    """Of an engine that looked up exactly the prompts that had a first output, unless told otherwise."""
    return EngineTotals(
        prompt, cached, prompt if looked_up is None else looked_up, cached if hit is None else hit, uncounted
    )


@pytest.mark.parametrize(
    ("ours", "queries", "hits", "is_close"),
    [
        (totals(), 1000, 500, True),
        (totals(), 1000, 480, False),
        (totals(990), 1000, 500, False),
        # An aborted prompt that had been looked up, and one that had not.
        (totals(aborted=300, looked_up=1300), 1300, 500, True),
        (totals(aborted=300), 1000, 500, True),
        (totals(aborted=300), 1300, 500, False),
        (totals(aborted=300, looked_up=1300, hit=600), 1300, 600, True),
        (totals(aborted=300, looked_up=1400), 1400, 500, False),
        # A prompt that vLLM never looks up cannot be among its queries.
        (totals(**{NOT_LOOKED_UP: 300}), 1000, 500, True),
        (totals(**{NOT_LOOKED_UP: 300}, looked_up=1300), 1300, 500, False),
    ],
)
def test_all_four_totals_must_agree(*, ours: EngineTotals, queries: int, hits: int, is_close: bool) -> None:
    """Those of first outputs as far as aborted prompts do not explain it, the engine's own word exactly."""
    assert compare(ours, CacheCounters(queries, hits)).is_close is is_close


def test_only_what_was_counted_meanwhile_is_compared() -> None:
    """By replica; one whose counters never rose has none."""
    before = Counted({"one": totals(100, 50, aborted=5)}, {"one": CacheCounters(700, 60)})
    after = Counted(
        {"one": totals(300, 150, aborted=25, looked_up=320), "two": totals(0, 0)}, {"one": CacheCounters(920, 160)}
    )
    agreements = after.agreement_since(before)
    assert agreements["one"].prompt == Difference(200, 220, 20)
    assert agreements["one"].cached == Difference(100, 100, 20)
    assert agreements["one"].looked_up == Difference(220, 220, 0)
    assert agreements["one"].hit == Difference(100, 100, 0)
    assert agreements["one"].uncounted_tokens == {"aborted": 20}
    assert all(agreement.is_close for agreement in agreements.values())
