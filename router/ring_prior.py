"""How much of a prompt the ring owner of its key holds beyond what this router knows.

Where routers tell each other everything, nothing. Where they do not, or after they all started anew, the ring is what
they have in common: each sends there what it knows nothing of, so something of it may be there from before. Learned
from the engines' own numbers, so that it is trusted as far as it turned out true.
"""

FORGET = 0.99
"""What earlier receipts count with each new one: the share is that of the last hundred or so."""


class RingPrior:
    """Of prompts that were placed by the ring: the share of what was not known to be cached, and was."""

    def __init__(self) -> None:
        self._found_tokens = 0.0
        self._unknown_tokens = 0.0

    def learn(self, *, unknown_tokens: int, found_tokens: int) -> None:
        """A prompt was placed by the ring; of so many tokens nothing was known, and so many of them were cached."""
        self._unknown_tokens = FORGET * self._unknown_tokens + unknown_tokens
        self._found_tokens = FORGET * self._found_tokens + found_tokens

    @property
    def share(self) -> float:
        """Of the next such prompt's unknown tokens, how many are probably cached at the owner, 0 to 1."""
        return self._found_tokens / self._unknown_tokens if self._unknown_tokens else 0.0
