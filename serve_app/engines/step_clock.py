"""The time that the steps of a simulated engine take."""

from collections.abc import Callable

from serve_app.settings.schema import EngineModelSettings

BACK_TO_BACK_S = 0.02
"""Seconds within which a step that follows another one counts as ready when that ended: the scheduler's time
between them is part of the measured `step_s` already."""


def num_attended(num_tokens: int, *, num_before: int) -> float:
    """Pairs of one of `num_tokens` tokens in a row and a token that it looks at: all before it, and itself by half.

    The half makes it additive: a prompt has the same in one chunk as in several.
    """
    return num_tokens * (num_before + num_tokens / 2)


class StepClock:
    """Lets each step take its time.

    Args:
        model: the constants.
        clock: seconds, monotonic.
        sleep: waits for a number of seconds.

    """

    def __init__(
        self, model: EngineModelSettings, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._model = model
        self._clock = clock
        self._sleep = sleep
        self._last_end_s = float("-inf")

    def step(
        self, *, prefill_tokens: int, num_attended: float = 0.0, num_decoding: int, decoding_tokens: int = 0
    ) -> None:
        """Wait until the end of a step that computes prompt tokens, and one more token for each decoding sequence.

        Args:
            prefill_tokens: tokens of all prompts in the step.
            num_attended: pairs of one of these and a token that it looks at.
            num_decoding: decoding sequences.
            decoding_tokens: tokens of these sequences that were computed before.

        """
        now_s = self._clock()
        start_s = self._last_end_s if now_s - self._last_end_s < BACK_TO_BACK_S else now_s
        model = self._model
        self._last_end_s = (
            start_s
            + model.step_s
            + prefill_tokens / model.prefill_tokens_per_s
            + model.attention_s * num_attended
            + model.decode_s * num_decoding
            + model.decode_context_s * decoding_tokens
        )
        self._sleep(max(0.0, self._last_end_s - now_s))
