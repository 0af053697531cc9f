"""Sessions of one request in which answers decide: long ones behind one system prompt, and long prompts besides."""

from collections.abc import Sequence
from random import Random

from loadtests.workloads.laws import (
    CHARS_PER_TOKEN,
    COLD_ANSWER_TOKENS,
    COLD_PROMPT_TOKENS,
    MAX_LONG_ANSWER_TOKENS,
    MIN_ANSWER_TOKENS,
    OWN_PROMPT_TOKENS,
    LogNormal,
    clamp_answer_tokens,
)
from loadtests.workloads.one_shot import random_text
from loadtests.workloads.session import Turn, chat_body


def long_answer_turns(
    sentences: Sequence[str], *, reference: str, rng: Random, system_tokens: int, answer_tokens: LogNormal
) -> tuple[Turn, ...]:
    """A question of some hundred tokens, answered at length.

    Args:
        sentences: what prompts are made of.
        reference: what the question begins with, of this session alone.
        rng: draws the question and its answer's length.
        system_tokens: of the system prompt, the same text for every session that has as many.
        answer_tokens: the law of the answer's length.

    """
    system = random_text(sentences, system_tokens * CHARS_PER_TOKEN, Random(f"system prompt, {system_tokens}"))
    question = random_text(sentences, rng.randint(*OWN_PROMPT_TOKENS) * CHARS_PER_TOKEN, rng)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"{reference}: {question}"}]
    num_tokens = round(min(max(answer_tokens.draw(rng), MIN_ANSWER_TOKENS), MAX_LONG_ANSWER_TOKENS))
    return (Turn(chat_body(messages, answer_tokens=num_tokens), 0.0),)


def cold_turns(sentences: Sequence[str], *, reference: str, rng: Random) -> tuple[Turn, ...]:
    """A long prompt that has nothing in common with any other, and a short answer."""
    content = f"{reference}: {random_text(sentences, rng.randint(*COLD_PROMPT_TOKENS) * CHARS_PER_TOKEN, rng)}"
    answer_tokens = clamp_answer_tokens(COLD_ANSWER_TOKENS.draw(rng))
    return (Turn(chat_body([{"role": "user", "content": content}], answer_tokens=answer_tokens), 0.0),)
