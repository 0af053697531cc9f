"""The time of an engine's steps, by which work in tokens becomes work in seconds.

Each prompt token makes a step longer, and so does each pair of a prompt token and a token before it. Each sequence that
is decoded makes it longer, too, and so does each token of its context, whose keys and values are read.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineModel:
    """The constants of an engine, which `warmroute calibrate` measures."""

    step_s: float
    """Time of every step, in seconds."""
    prefill_tokens_per_s: float
    """Prompt tokens computed a second, besides."""
    attention_s: float
    """Time of each pair of a prefill token and a token before it in its prompt, cached or not, in seconds."""
    decode_s: float
    """Time of each sequence that is decoded in a step, in seconds."""
    decode_context_s: float
    """Time of each token of these sequences, in seconds."""

    def prefill_s(self, num_tokens: float, *, num_before: float) -> float:
        """Time of computing `num_tokens` of a prompt after the `num_before` tokens before them, in seconds."""
        return num_tokens / self.prefill_tokens_per_s + self.attention_s * num_tokens * (num_before + num_tokens / 2)

    def decode_step_s(self, num_sequences: float, *, context_tokens: float) -> float:
        """Time that `num_sequences`, with `context_tokens` in all, add to a step, in seconds."""
        return self.decode_s * num_sequences + self.decode_context_s * context_tokens
