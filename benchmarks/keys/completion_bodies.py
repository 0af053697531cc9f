"""Bodies for completions: a dialogue as text, or as token ids."""

import json
from collections.abc import Callable
from typing import Any

from benchmarks.keys.texts import Dialogue

Body = dict[str, Any]
MAX_IDS = 3_000


def transcript(dialogue: Dialogue) -> str:
    """Its tools and messages as a text, the way that people prompt models without a template."""
    tools = [json.dumps(tool) for tool in dialogue.tools]
    lines = [
        f"{message['role']}: {message.get('content') or json.dumps(message.get('tool_calls'))}"
        for message in dialogue.messages
    ]
    return "\n".join([*tools, *lines, "assistant:"])


def marked_up(dialogue: Dialogue) -> str:
    """A text with special tokens, as of a client that renders the templates of all three families itself."""
    lines = [
        f"<|im_start|>{message['role']}\n{message.get('content') or ''}<|im_end|>\n"
        f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n{message.get('content') or ''}<|eot_id|>"
        f"[INST] {message.get('content') or ''} [/INST]</s>"
        for message in dialogue.messages
    ]
    return "".join(lines)


def token_ids(dialogue: Dialogue) -> list[int]:
    """Token ids that every vocabulary has; what they say does not matter."""
    return [300 + ord(letter) % 1_000 for letter in transcript(dialogue)[:MAX_IDS]]


def _text(dialogue: Dialogue, **fields: Any) -> Body:  # noqa: ANN401  JSON
    return {"prompt": transcript(dialogue), "max_tokens": 1, **fields}


VARIATIONS: dict[str, Callable[[Dialogue], Body | None]] = {
    "plain": _text,
    "marked up": lambda dialogue: {"prompt": marked_up(dialogue), "max_tokens": 1},
    "token ids": lambda dialogue: {"prompt": token_ids(dialogue), "max_tokens": 1},
    "one text in a list": lambda dialogue: {"prompt": [transcript(dialogue)], "max_tokens": 1},
    "one list of token ids": lambda dialogue: {"prompt": [token_ids(dialogue)], "max_tokens": 1},
    "no special tokens": lambda dialogue: _text(dialogue, add_special_tokens=False),
    "truncated": lambda dialogue: _text(dialogue, truncate_prompt_tokens=100),
    "truncated token ids": lambda dialogue: {
        "prompt": token_ids(dialogue),
        "max_tokens": 1,
        "truncate_prompt_tokens": 10,
    },
    "salted": lambda dialogue: _text(dialogue, cache_salt="a tenant"),
    "echoed": lambda dialogue: _text(dialogue, echo=True),
}
