"""How long an engine's steps take: by this, work that is counted in tokens becomes time.

A step that computes prompt tokens lasts longer by each of them, and by each pair of one and a token that it looks at; a
step that decodes, by each sequence and by each token of these sequences' contexts, whose keys and values are read.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineModel:
    """The constants, in seconds unless they say otherwise; `warmroute calibrate` measures them."""

    step_s: float
    """Of every step."""
    prefill_tokens_per_s: float
    """Prompt tokens computed a second, beside that."""
    attention_s: float
    """Of each pair of a prefill token and a token before it in its prompt, cached or not."""
    decode_s: float
    """Of each sequence that is decoded in a step."""
    decode_context_s: float
    """Of each token of these sequences."""

    def prefill_s(self, num_tokens: float, *, num_before: float) -> float:
        """To compute so many tokens of a prompt, after others of it."""
        return num_tokens / self.prefill_tokens_per_s + self.attention_s * num_tokens * (num_before + num_tokens / 2)

    def decode_step_s(self, num_sequences: float, *, context_tokens: float) -> float:
        """What so many sequences, with so many tokens together, add to a step."""
        return self.decode_s * num_sequences + self.decode_context_s * context_tokens
