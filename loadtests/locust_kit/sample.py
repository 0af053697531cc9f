"""What was measured of one request. Of texts nothing is kept."""

from dataclasses import dataclass

from loadtests.client.answers import Outcome

TOO_MANY_REQUESTS = 429
WARM_SHARE = 0.5
"""Of the prompt's tokens."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Times in seconds from sending."""

    kind: str
    outcome: Outcome
    duration_s: float
    status: int | None = None
    retry_after_s: float | None = None
    ttft_s: float | None = None
    last_token_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    num_bytes: int = 0
    """Of the answer."""
    engine: str = ""
    """What the server says its engine is, where it says so."""

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer came."""
        return self.outcome is Outcome.COMPLETE

    @property
    def is_shed(self) -> bool:
        """Whether the server declined it for its load, as it should."""
        return self.status == TOO_MANY_REQUESTS

    @property
    def is_warm(self) -> bool:
        """Whether at least half of the prompt's tokens came from a cache, by the usage that the server reported."""
        return self.cached_tokens >= WARM_SHARE * self.prompt_tokens

    @property
    def inter_token_s(self) -> float | None:
        """From the first token to the last, by the tokens that came after the first."""
        if self.ttft_s is None or self.last_token_s is None or self.answer_tokens <= 1:
            return None
        return (self.last_token_s - self.ttft_s) / (self.answer_tokens - 1)

    @property
    def failure(self) -> str:
        """Of a request that is neither complete nor shed."""
        return f"{self.status}" if self.outcome is Outcome.REFUSED else self.outcome.value
