"""Sessions of chats and of agents, from recorded dialogues."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from loadtests.workloads.applications import draw_application, with_own_order, with_system_prompt
from loadtests.workloads.laws import CHARS_PER_TOKEN, TOOL_S, USER_THINK_S, clamp_answer_tokens
from loadtests.workloads.session import Message, Turn, chat_body


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation in OpenAI's message format that ends with an answer, and the tools of that conversation."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


def spoken(dialogue: Dialogue) -> Dialogue | None:
    """What the two said to each other, without tools and their results; None where nothing was answered."""
    messages = tuple(each for each in dialogue.messages if each["role"] != "tool" and not each.get("tool_calls"))
    return Dialogue(messages) if any(each["role"] == "assistant" for each in messages) else None


def dialogue_turns(dialogue: Dialogue, *, reference: str, rng: Random) -> tuple[Turn, ...]:
    """A request for each answer and for each call of a tool, with all tools listed in each."""
    return tuple(_turns(dialogue.messages, dialogue.tools, reference, rng))


def _turns(recorded: Sequence[Message], tools: Sequence[dict[str, Any]], reference: str, rng: Random) -> Iterator[Turn]:
    application = draw_application(rng)
    messages = _with_reference(with_system_prompt(recorded, application), reference)
    listed = with_own_order(tools, application)
    is_first = True
    for index, answer in enumerate(messages):
        if answer["role"] != "assistant" or messages[index - 1]["role"] == "system":
            continue
        body = chat_body(messages[:index], answer_tokens=_recorded_tokens(answer), tools=listed)
        pause = TOOL_S if messages[index - 1]["role"] == "tool" else USER_THINK_S
        yield Turn(body, 0.0 if is_first else pause.draw(rng))
        is_first = False


def _with_reference(messages: Sequence[Message], reference: str) -> list[Message]:
    """The same with the user's first words made unique: users write their own words, to what an application writes."""
    first = next(index for index, message in enumerate(messages) if message["role"] == "user")
    marked = messages[first] | {"content": f"Reference {reference}. {messages[first]['content']}"}
    return [*messages[:first], marked, *messages[first + 1 :]]


def _recorded_tokens(answer: Message) -> int:
    """How many tokens the answer is asked to have: about as many as the recorded one, within bounds."""
    text = answer.get("content") or json.dumps(answer.get("tool_calls", ""))
    return clamp_answer_tokens(len(text) / CHARS_PER_TOKEN)
