"""Times to first tokens, on hand-made numbers."""

from io import StringIO
from random import Random

from rich.console import Console

from benchmarks.gpu.engine import EngineAnswer
from benchmarks.gpu.ttft import TtftOutcome, TtftSample, measure_prompts, ttft_table
from tests.benchmarks.gpu.fake_engine import FakeEngine

LENGTHS = (100, 200, 400, 800)


def sample(num_tokens: int, cold_s: float, warm_s: float, *, cached: tuple[int, int] = (0, 96)) -> TtftSample:
    """One prompt, twice."""
    cold, warm = (
        EngineAnswer(num_tokens, tokens, first_token_s, first_token_s)
        for tokens, first_token_s in zip(cached, (cold_s, warm_s), strict=True)
    )
    return TtftSample(num_tokens, cold, warm)


def result() -> TtftOutcome:
    """10,000 prefill tokens a second; twice the same."""
    return TtftOutcome([sample(length, 0.010 + length / 10_000, 0.012) for length in LENGTHS for _ in range(2)])


async def test_each_prompt_is_sent_twice_and_then_no_more() -> None:
    """Every length once a repetition, after a round that does not count; no two prompts have a block in common."""
    engine = FakeEngine()
    samples = [each async for each in measure_prompts(engine, LENGTHS, repetitions=3, rng=Random(1))]
    assert sorted(each.num_tokens for each in samples) == sorted(LENGTHS * 3)
    assert [each.num_tokens for each in samples] != [*LENGTHS, *LENGTHS, *LENGTHS]
    assert len(engine.prompts) == 2 * len(LENGTHS) * (1 + 3)
    assert engine.prompts[::2] == engine.prompts[1::2]
    assert {each.cold.cached_tokens for each in samples} == {0}
    assert all(each.warm.cached_tokens == each.num_tokens - 4 for each in samples)


async def test_the_same_seed_sends_the_same_prompts() -> None:
    """In the same order."""
    engines = [FakeEngine() for _ in range(2)]
    for engine in engines:
        async for _ in measure_prompts(engine, LENGTHS, repetitions=2, rng=Random(7)):
            pass
    assert engines[0].prompts == engines[1].prompts


def test_the_table_has_a_row_for_each_length() -> None:
    """The last column is the rate of the tokens that a row has more than the one before."""
    written = StringIO()
    Console(width=140, file=written).print(ttft_table(result()))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in written.getvalue().splitlines() if "│" in line]
    assert rows[0] == ["100", "20.0 ±0.0", "12.0 ±0.0", "96", "0.600 ±0.000", "5,000", "-"]
    assert rows[3] == ["800", "90.0 ±0.0", "12.0 ±0.0", "96", "0.133 ±0.000", "8,889", "10,000"]


def test_what_makes_times_worthless_is_named() -> None:
    """A cold prompt that was cached, and a warm one that was not."""
    assert result().faults() == []
    spoilt = TtftOutcome([sample(100, 0.02, 0.02, cached=(64, 0))])
    assert spoilt.faults() == [
        "prompts of 100 tokens had 64 cached when cold",
        "prompts of 100 tokens had 0 cached when warm",
    ]


def test_the_document_has_every_sample() -> None:
    """In seconds."""
    document = result().as_json()
    assert len(document["prompts"]) == 2 * len(LENGTHS)
    assert document["prompts"][0]["cold"] == {
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "first_token_s": 0.02,
        "duration_s": 0.02,
    }
