"""Sessions of one request that has nothing in common with any other: no routing can save anything here."""

from collections.abc import Sequence
from random import Random

from loadtests.workloads.laws import (
    CHARS_PER_TOKEN,
    MAX_ONE_SHOT_PROMPT_TOKENS,
    ONE_SHOT_ANSWER_TOKENS,
    ONE_SHOT_PROMPT_TOKENS,
    clamp_answer_tokens,
)
from loadtests.workloads.session import Turn, chat_body


def one_shot_turns(sentences: Sequence[str], *, reference: str, rng: Random) -> tuple[Turn, ...]:
    """Sentences in random order after words that no other prompt begins with."""
    num_tokens = min(ONE_SHOT_PROMPT_TOKENS.draw(rng), MAX_ONE_SHOT_PROMPT_TOKENS)
    content = f"{reference}: {random_text(sentences, round(num_tokens * CHARS_PER_TOKEN), rng)}"
    answer_tokens = clamp_answer_tokens(ONE_SHOT_ANSWER_TOKENS.draw(rng))
    return (Turn(chat_body([{"role": "user", "content": content}], answer_tokens=answer_tokens), 0.0),)


def random_text(sentences: Sequence[str], num_chars: int, rng: Random) -> str:
    """Sentences in random order, of that many characters."""
    drawn: list[str] = []
    left = num_chars
    while left > 0:
        drawn.append(rng.choice(sentences))
        left -= len(drawn[-1]) + 1
    return " ".join(drawn)[:num_chars]
