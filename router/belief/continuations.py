"""The answer before, as a part of the next prompt: how much of it is found again.

The next turn of a conversation begins with the prompt before and its answer, and where that answer was computed, its KV
is cached too. Routers never see its tokens, only how many there were. Whether a prompt really goes on with them is up
to the client and the template: some drop what a model has been thinking. So a prompt that continues another one is
taken to find the share of the answer that such prompts lately found.
"""

FORGET = 0.95
"""What earlier prompts count with each new one: the share is that of the last twenty or so."""


class Continuations:
    """Of the answers before, the share that was found again."""

    def __init__(self) -> None:
        self.expected_tokens = self.found_tokens = 1.0  # all of it, until one has told

    @property
    def share(self) -> float:
        """Of the next such answer, how much to expect, 0 to 1."""
        return self.found_tokens / self.expected_tokens

    def learn(self, *, expected_tokens: int, found_tokens: int) -> None:
        """A prompt continued another one; of the answer's tokens, so many were found."""
        self.expected_tokens = FORGET * self.expected_tokens + expected_tokens
        self.found_tokens = FORGET * self.found_tokens + min(found_tokens, expected_tokens)

    def adopt(self, *, expected_tokens: float, found_tokens: float) -> None:
        """Know what a peer knows, if it has seen more."""
        if expected_tokens > self.expected_tokens:
            self.expected_tokens, self.found_tokens = expected_tokens, found_tokens
