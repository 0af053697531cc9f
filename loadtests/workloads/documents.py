"""Sessions of retrieval-augmented generation: a few documents, then questions about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from loadtests.workloads.laws import CHARS_PER_TOKEN, USER_THINK_S, clamp_answer_tokens, zipf_sample
from loadtests.workloads.session import Message, Turn, chat_body

NUM_DOCUMENTS = 3
"""The number of documents in a session."""
MAX_QUESTIONS = 3
INSTRUCTION = "Answer the question from the documents alone. If they do not hold the answer, say so."


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and what is asked about it."""

    text: str
    questions: tuple[tuple[str, str], ...]
    """Each with its answer."""


def rag_turns(documents: Sequence[Document], *, reference: str, rng: Random) -> tuple[Turn, ...]:
    """Some of the popular documents, best match first and before the question; then perhaps further questions."""
    found: list[Document] = zipf_sample(rng, documents, NUM_DOCUMENTS)
    context = "\n\n".join(f"Document {number}:\n{each.text}" for number, each in enumerate(found, start=1))
    asked = found[0].questions
    chosen = rng.sample(asked, min(rng.randint(1, MAX_QUESTIONS), len(asked)))
    messages: list[Message] = [{"role": "system", "content": INSTRUCTION}]
    turns: list[Turn] = []
    for question, answer in chosen:
        content = question if turns else f"{context}\n\nQuestion {reference}: {question}"
        messages = [*messages, {"role": "user", "content": content}]
        body = chat_body(messages, answer_tokens=clamp_answer_tokens(len(answer) / CHARS_PER_TOKEN))
        turns.append(Turn(body, USER_THINK_S.draw(rng) if turns else 0.0))
        messages = [*messages, {"role": "assistant", "content": answer}]
    return tuple(turns)
