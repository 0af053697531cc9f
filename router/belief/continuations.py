"""The share of a conversation's last answer that the next prompt finds cached.

The next turn of a conversation begins with the last prompt and its answer, and where that answer was computed, its KV
is cached, too. Routers never see its tokens, only their number. Whether a prompt really goes on with them is up to the
client and the template: some drop the model's reasoning. So a prompt that continues another one is expected to find the
share of the answer that such prompts found lately.
"""

FORGET = 0.95
"""Weight of all earlier prompts with each new one: the share is that of the last twenty or so."""


class Continuations:
    """Answer tokens that were expected to be cached, and those that were found; older ones fade."""

    def __init__(self) -> None:
        self.expected_tokens = self.found_tokens = 1.0  # the whole answer is expected, until a prompt has told

    @property
    def share(self) -> float:
        """Share of the next such answer that is expected to be cached, 0 to 1."""
        return self.found_tokens / self.expected_tokens

    def learn(self, *, expected_tokens: int, found_tokens: int) -> None:
        """Count a prompt that continued another one, and the answer tokens that it found."""
        self.expected_tokens = FORGET * self.expected_tokens + expected_tokens
        self.found_tokens = FORGET * self.found_tokens + min(found_tokens, expected_tokens)

    def adopt(self, *, expected_tokens: float, found_tokens: float) -> None:
        """Take over a peer's counts, if it has seen more."""
        if expected_tokens > self.expected_tokens:
            self.expected_tokens, self.found_tokens = expected_tokens, found_tokens
