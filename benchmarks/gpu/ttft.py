"""Time to the first token against the prompt's length, cold and warm."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import Any, Protocol

from rich.table import Table

from benchmarks.gpu.engine import EngineAnswer
from loadtests.report import intervals
from loadtests.report.intervals import estimate_text
from loadtests.report.tables import make_table
from serve_app.calibration.probe import TOKEN_IDS

MS_A_SECOND = 1000


class Asked(Protocol):
    """What is needed of an engine."""

    async def ask(self, token_ids: Sequence[int], *, answer_tokens: int) -> EngineAnswer:
        """Send a prompt, and follow its answer."""


@dataclass(frozen=True, slots=True)
class TtftSample:
    """One prompt, sent twice in a row."""

    num_tokens: int
    cold: EngineAnswer
    warm: EngineAnswer


@dataclass(frozen=True, slots=True)
class PromptLength:
    """The samples of one length; times to the first token in seconds, in order of the repetitions."""

    num_tokens: int
    cold_s: list[float]
    warm_s: list[float]
    cached_when_cold: float
    """Mean tokens, by the engine's word."""
    cached_when_warm: float


@dataclass(frozen=True, slots=True)
class TtftOutcome:
    """Everything that was measured."""

    samples: Sequence[TtftSample]

    def lengths(self) -> Iterator[PromptLength]:
        """The lengths from short to long."""
        for num_tokens in sorted({sample.num_tokens for sample in self.samples}):
            samples = [sample for sample in self.samples if sample.num_tokens == num_tokens]
            yield PromptLength(
                num_tokens,
                [sample.cold.first_token_s for sample in samples],
                [sample.warm.first_token_s for sample in samples],
                fmean(sample.cold.cached_tokens for sample in samples),
                fmean(sample.warm.cached_tokens for sample in samples),
            )

    def faults(self) -> list[str]:
        """What makes the times worthless."""
        return [
            f"prompts of {length.num_tokens:,} tokens had {cached:,.0f} cached when {when}"
            for length in self.lengths()
            for when, cached, is_wrong in (
                ("cold", length.cached_when_cold, length.cached_when_cold > 0),
                ("warm", length.cached_when_warm, length.cached_when_warm == 0),
            )
            if is_wrong
        ]

    def as_json(self) -> dict[str, Any]:
        """Every sample; times in seconds."""
        return {"prompts": [asdict(sample) for sample in self.samples]}


async def measure_prompts(
    engine: Asked, lengths: Sequence[int], *, repetitions: int, rng: Random
) -> AsyncIterator[TtftSample]:
    """Measure each length once a repetition, in random order; a first round warms the engine up and does not count.

    Raises:
        MeasurementError: the engine did not answer.

    """
    for length in lengths:
        await _sample(engine, length, rng)
    for _ in range(repetitions):
        for length in rng.sample(lengths, k=len(lengths)):
            yield await _sample(engine, length, rng)


async def _sample(engine: Asked, length: int, rng: Random) -> TtftSample:
    """Send a prompt of random ids, which no engine has seen."""
    token_ids = rng.choices(TOKEN_IDS, k=length)
    cold = await engine.ask(token_ids, answer_tokens=1)
    return TtftSample(length, cold, warm=await engine.ask(token_ids, answer_tokens=1))


def ttft_table(result: TtftOutcome) -> Table:
    """Means by length; the last column is the speed of the tokens that a row has more than the row before."""
    table = make_table(
        "Time to the first token",
        left=(),
        right=("tokens", "cold ms", "warm ms", "cached when warm", "warm / cold", "prefill tokens/s", "of those added"),
    )
    lengths = list(result.lengths())
    slopes = ["-", *(_slope(*pair) for pair in pairwise(lengths))]
    for length, slope in zip(lengths, slopes, strict=True):
        table.add_row(
            f"{length.num_tokens:,}",
            milliseconds(length.cold_s),
            milliseconds(length.warm_s),
            f"{length.cached_when_warm:,.0f}",
            estimate_text(intervals.ratio(length.warm_s, length.cold_s), ".3f"),
            f"{length.num_tokens / fmean(length.cold_s):,.0f}",
            slope,
        )
    return table


def milliseconds(seconds: Sequence[float]) -> str:
    """Their mean, with its interval."""
    return estimate_text(intervals.mean([MS_A_SECOND * each for each in seconds]), ",.1f")


def _slope(shorter: PromptLength, longer: PromptLength) -> str:
    """A dash where more tokens took no more time."""
    seconds = fmean(longer.cold_s) - fmean(shorter.cold_s)
    return f"{(longer.num_tokens - shorter.num_tokens) / seconds:,.0f}" if seconds > 0 else "-"
