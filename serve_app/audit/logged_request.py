"""A line of a log as the request that was sent."""

from dataclasses import dataclass
from typing import Any

import orjson

from serve_app.audit.log_file import Flaw, LogLine, LogPlace
from serve_app.prompt.body import session_id_of

PROMPT_FIELDS = ("messages", "input", "prompt")
WRAPPERS = ("body", "request", "request_body", "json", "data", "params", "kwargs")
"""Under which loggers put the body, as OpenAI's batch files do; the first one that has a prompt is taken."""
SESSION_FIELDS = ("session_id", "conversation_id", "thread_id", "trace_id")
"""Fields beside a body that name its conversation."""


class FlawError(Exception):
    """The line has no request that could be read."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.value)
        self.flaw = flaw


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """What a client sent."""

    place: LogPlace
    body: dict[str, Any]
    """Not to be changed."""
    session_id: str = ""
    """The conversation's id, where the log or the client says so."""

    @property
    def model(self) -> str:
        """The model's name, as the client wrote it."""
        name = self.body.get("model")
        return name if isinstance(name, str) else ""


def read_request(line: LogLine) -> LoggedRequest:
    """The request in a line: the whole of it, or what a logger put under a name such as `body`.

    Raises:
        FlawError: there is none.

    """
    if line.flaw is not None:
        raise FlawError(line.flaw)
    try:
        fields = orjson.loads(line.content)
    except orjson.JSONDecodeError as error:
        raise FlawError(_flaw_of(line.content)) from error
    if not isinstance(fields, dict):
        raise FlawError(Flaw.NOT_JSON)
    body = _body_of(fields)
    if body is None:
        raise FlawError(Flaw.NO_PROMPT)
    return LoggedRequest(line.place, body, session_id_of(body) or _session_of(fields))


def _flaw_of(content: bytes) -> Flaw:
    try:
        content.decode()
    except UnicodeDecodeError:
        return Flaw.NOT_TEXT
    return Flaw.NOT_JSON


def _body_of(fields: dict[str, Any]) -> dict[str, Any] | None:
    if _has_prompt(fields):
        return fields
    for name in WRAPPERS:
        inner = fields.get(name)
        if isinstance(inner, str):
            try:
                inner = orjson.loads(inner)
            except orjson.JSONDecodeError:
                continue
        if isinstance(inner, dict) and _has_prompt(inner):
            return inner
    return None


def _has_prompt(fields: dict[str, Any]) -> bool:
    """Whether there is what may be a prompt. Other values are for the model's renderer to refuse."""
    if "messages" in fields:
        messages = fields["messages"]
        return isinstance(messages, list) and bool(messages) and all(isinstance(each, dict) for each in messages)
    return any(isinstance(fields.get(name), str | list) and bool(fields[name]) for name in PROMPT_FIELDS)


def _session_of(fields: dict[str, Any]) -> str:
    names = (fields.get(name) for name in SESSION_FIELDS)
    return next((name for name in names if isinstance(name, str) and name), "")
