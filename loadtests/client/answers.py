"""What an answer is: whole, an error, or cut short; in the words of each API. Pure."""

from enum import StrEnum
from typing import Any

import orjson

DONE = "[DONE]"
LAST_EVENTS = frozenset({"message_stop", "response.completed", "response.incomplete"})
"""The last event of a message and of a response; chat and text completions end with `[DONE]`."""
ERROR_EVENTS = frozenset({"error", "response.failed"})


class Outcome(StrEnum):
    """How a request ended."""

    COMPLETE = "complete"
    """The whole answer came; of a stream also its reason to finish and its last event."""
    REFUSED = "refused"
    """A status of 400 or more."""
    ERROR_EVENT = "error event"
    """A stream that began well told of an error."""
    CUT = "cut"
    """The answer began, and its end never came."""
    NO_ANSWER = "no answer"
    """The connection failed before an answer began."""
    TIMED_OUT = "timed out"
    """The client's timeout."""
    CLOSED = "closed"
    """The client closed the connection on purpose."""


class EventStream:
    """Reads server-sent events, far enough to tell a whole answer from one that only stopped."""

    def __init__(self) -> None:
        self.num_events = 0
        self.answer_tokens: int | None = None
        """Tokens of the answer, by the usage that the stream reports; None where it does not."""
        self.prompt_tokens = 0
        self.cached_tokens = 0
        """Tokens of the prompt that were cached; a server that reused none may leave them out."""
        self._choice_to_finish: dict[int, str | None] = {}
        self._has_ended = False
        self._has_error = False

    def feed(self, line: str) -> None:
        """The next line."""
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == DONE:
            self._has_ended = True
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return  # a line that the end of the connection cut; the last event will be missing
        self.num_events += 1
        self._read(event)

    @property
    def finish_reason(self) -> str | None:
        """The reason of the first choice, or of the message."""
        return self._choice_to_finish.get(0)

    @property
    def outcome(self) -> Outcome:
        """The outcome, once no more lines come."""
        if self._has_error:
            return Outcome.ERROR_EVENT
        is_finished = bool(self._choice_to_finish) and None not in self._choice_to_finish.values()
        return Outcome.COMPLETE if self._has_ended and is_finished else Outcome.CUT

    def counts(self) -> dict[str, object]:
        """Counts for the record file."""
        return {
            "num_events": self.num_events,
            "answer_tokens": self.answer_tokens,
            "finish_reason": self.finish_reason,
        }

    def _read(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        self._has_error |= bool(event.get("error")) or kind in ERROR_EVENTS
        self._has_ended |= kind in LAST_EVENTS
        for choice in event.get("choices") or ():
            self._finish(choice["index"], choice.get("finish_reason"))
        if kind == "message_delta":
            self._finish(0, event["delta"].get("stop_reason"))
        answer = event.get("response") or {}
        if kind in LAST_EVENTS and answer:
            self._finish(0, answer.get("status"))
        usage = event.get("usage") or answer.get("usage") or {}
        self.answer_tokens = usage.get("completion_tokens", usage.get("output_tokens", self.answer_tokens))
        self.prompt_tokens = usage.get("prompt_tokens", self.prompt_tokens)
        self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or self.cached_tokens

    def _finish(self, choice: int, reason: str | None) -> None:
        self._choice_to_finish[choice] = reason or self._choice_to_finish.get(choice)


def error_shape(body: bytes) -> str:
    """The shape of an error's body: openai, anthropic, other JSON, text or empty."""
    if not body:
        return "empty"
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "text"
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict) or not {"type", "message"} <= error.keys():
        return "other JSON"
    return "anthropic" if content.get("type") == "error" else "openai"
