"""From measured times to the constants of an engine's steps, by least squares. Pure.

A step takes `step_s` + prefill tokens / `prefill_tokens_per_s` + `attention_s` for each token that one of them looks
at + `decode_s` for each sequence being decoded + `decode_context_s` for each token of these sequences. So the time
between two tokens of a single sequence is a line over its context; that of several short ones is a line over their
number, once their contexts are taken off. The time to the first token of some new ones after a cached context is a line
over the context; and that of a cold prompt which fits into one step a line over its length, once its attention is taken
off. What is over in that, beside a step, is spent outside the engine's steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, linear_regression

from serve_app.calibration.errors import FitError
from serve_app.engines.step_clock import num_attended

MIN_POINTS = 3
MAX_ERROR = 0.2
"""Root mean square of the residuals over the mean of the values: above, the times are no line."""
MIN_PREFILL_GROWTH = 0.2
"""Less than this from the shortest to the longest prompt, over the mean, cannot be told from noise."""
MIN_DECODE_GROWTH = -0.1
"""A sequence may cost nothing, and noise makes that a little less."""


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """One measurement."""

    x: float
    seconds: float


@dataclass(frozen=True, slots=True)
class FittedLine:
    """The line through some points that is nearest to them."""

    points: tuple[MeasuredPoint, ...]
    intercept_s: float
    slope_s: float

    def at(self, x: float) -> float:
        """Seconds by the line."""
        return self.intercept_s + self.slope_s * x

    @property
    def error(self) -> float:
        """Root mean square of the residuals, over the mean of the measured times."""
        squares = fmean((point.seconds - self.at(point.x)) ** 2 for point in self.points)
        return sqrt(squares) / self._mean_s

    @property
    def growth(self) -> float:
        """Growth from the first to the last point, over the mean of the measured times."""
        xs = [point.x for point in self.points]
        return self.slope_s * (max(xs) - min(xs)) / self._mean_s

    @property
    def _mean_s(self) -> float:
        return fmean(point.seconds for point in self.points)


@dataclass(frozen=True, slots=True)
class Contexts:
    """Times to first tokens over the tokens of a cached context."""

    new_tokens: int
    """After each of them, as many."""
    points: Sequence[MeasuredPoint]


@dataclass(frozen=True, slots=True)
class DecodeContexts:
    """Times between the tokens of a single sequence over the tokens of its context."""

    short_tokens: float
    """The context of each sequence where it was their number that differed."""
    points: Sequence[MeasuredPoint]


@dataclass(frozen=True, slots=True)
class Fit:
    """The lines, and the constants that they give."""

    prefill: FittedLine
    """Time to the first token over a cold prompt's tokens, without their attention."""
    decode: FittedLine
    """Time between tokens over the sequences being decoded, without their contexts."""
    context: FittedLine | None
    """Time to the first token over the cached tokens before as many new ones; None where it was not measured."""
    attention_s: float
    """What each pair of a prefill token and one before it adds."""
    decode_context: FittedLine | None
    """Time between the tokens of a single sequence over the tokens of its context; None where it was not measured."""
    decode_context_s: float
    """What each token of a sequence being decoded adds."""

    @property
    def step_s(self) -> float:
        """What every step costs."""
        return self.decode.intercept_s

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens computed a second."""
        return 1 / self.prefill.slope_s

    @property
    def decode_s(self) -> float:
        """What each sequence being decoded adds to a step."""
        return max(0.0, self.decode.slope_s)

    @property
    def outside_s(self) -> float:
        """The part of the time to a first token that is spent outside the engine's steps, in seconds."""
        return self.prefill.intercept_s - self.step_s


def fit_constants(
    prefill: Sequence[MeasuredPoint],
    decode: Sequence[MeasuredPoint],
    contexts: Contexts | None = None,
    decode_contexts: DecodeContexts | None = None,
) -> Fit:
    """The constants nearest to the measured times.

    Args:
        prefill: times to the first token of cold prompts, each of which fits into one step.
        decode: times between tokens.
        contexts: times to the first token after cached contexts; without them, attention is taken to cost nothing.
        decode_contexts: times between tokens after long contexts; without them, likewise.

    Raises:
        FitError: there is too little to fit, or what comes out is nonsense.

    """
    decode_context_line, decode_context_s = None, 0.0
    if decode_contexts is not None:
        decode_context_line = _line(decode_contexts.points, "contexts of different lengths")
        decode_context_s = max(0.0, decode_context_line.slope_s)
        each_s = decode_context_s * decode_contexts.short_tokens
        decode = [MeasuredPoint(point.x, point.seconds - each_s * point.x) for point in decode]
    decode_line = _line(decode, "different numbers of streams")
    context_line, attention_s = None, 0.0
    if contexts is not None:
        context_line = _line(contexts.points, "cached contexts of different lengths")
        attention_s = max(0.0, context_line.slope_s / contexts.new_tokens)
    straight = [
        MeasuredPoint(each.x, each.seconds - attention_s * num_attended(round(each.x), num_before=0))
        for each in prefill
    ]
    prefill_line = _prefill_line(straight, step_s=decode_line.intercept_s)
    fit = Fit(prefill_line, decode_line, context_line, attention_s, decode_context_line, decode_context_s)
    _check(fit)
    return fit


def _check(fit: Fit) -> None:
    if fit.prefill.growth < MIN_PREFILL_GROWTH:
        raise FitError(f"longer prompts hardly took longer ({_times(fit.prefill)}): raise --longest")
    if fit.decode.growth < MIN_DECODE_GROWTH:
        raise FitError(f"more streams had less time between tokens ({_times(fit.decode)}): is the replica idle?")
    if fit.step_s <= 0:
        raise FitError(
            f"a step without work would take {fit.step_s * 1000:.2f} ms ({_times(fit.decode)}): "
            "measure more streams with --streams"
        )
    for name, line in (
        ("to the first token", fit.prefill),
        ("between tokens", fit.decode),
        ("to the first token after a cached context", fit.context),
        ("between tokens after long contexts", fit.decode_context),
    ):
        if line is not None and line.error > MAX_ERROR:
            raise FitError(
                f"the times {name} are no line ({_times(line)}), they are {line.error:.0%} off: is the replica idle?"
            )


def _prefill_line(points: Sequence[MeasuredPoint], *, step_s: float) -> FittedLine:
    """A prompt takes a step at least. Where long prompts are dearer by the token, the nearest line would start below
    that; then the nearest of those that start there is taken.
    """
    line = _line(points, "prompts of different lengths")
    if line.intercept_s >= step_s:
        return line
    slope_s = sum(point.x * (point.seconds - step_s) for point in points) / sum(point.x**2 for point in points)
    return FittedLine(line.points, step_s, slope_s)


def _line(points: Sequence[MeasuredPoint], wanted: str) -> FittedLine:
    if len({point.x for point in points}) < MIN_POINTS:
        raise FitError(f"{MIN_POINTS} {wanted} are needed: raise --longest or --streams")
    slope_s, intercept_s = linear_regression([point.x for point in points], [point.seconds for point in points])
    return FittedLine(tuple(points), intercept_s, slope_s)


def _times(line: FittedLine) -> str:
    return ", ".join(f"{point.x:g}: {point.seconds * 1000:.1f} ms" for point in line.points)
