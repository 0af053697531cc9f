"""Where the parts of a prompt are in a request's body, whichever API it is for; and bodies with some changed."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

FieldPath = tuple[str | int, ...]
"""As `("messages", 0, "content")`."""

SYSTEM_ROLES = ("system", "developer")  # no set, as a role of a log may be any JSON
BILLING_HEADER = "x-anthropic-billing-header"
"""Start of a part of `system` that is in no prompt: vLLM's Messages API leaves it out."""


class TextField(NamedTuple):
    """A text of a body."""

    path: FieldPath
    text: str


def path_text(path: FieldPath) -> str:
    """A path as people write it: `messages[0].content`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def message_list(body: dict[str, Any]) -> tuple[str, Sequence[dict[str, Any]]]:
    """The messages, and in which field they are; those of the Responses API are its input."""
    for name in ("messages", "input"):
        messages = body.get(name)
        if isinstance(messages, list):
            return name, [each for each in messages if isinstance(each, dict)] if _are_dicts(messages) else []
    return "messages", []


def _are_dicts(messages: list[Any]) -> bool:
    return all(isinstance(each, dict) for each in messages)


def tool_list(body: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The tools; none where some are no objects."""
    tools = body.get("tools")
    return tools if isinstance(tools, list) and _are_dicts(tools) else []


def tool_name(tool: dict[str, Any]) -> str:
    """The name of a tool of any API."""
    function = tool.get("function")
    name = (function if isinstance(function, dict) else tool).get("name")
    return name if isinstance(name, str) else str(tool.get("type", ""))


def system_texts(body: dict[str, Any]) -> list[TextField]:
    """What is said before the conversation begins, in order."""
    texts = [*_system_field(body), *_content_texts(body.get("instructions"), ("instructions",))]
    name, messages = message_list(body)
    for index, message in enumerate(messages):
        if message.get("role") not in SYSTEM_ROLES:
            break
        texts += _content_texts(message.get("content"), (name, index, "content"))
    return texts


def first_user_texts(body: dict[str, Any]) -> list[TextField]:
    """The first thing that a user says; a completion's prompt is one, too."""
    for name in ("prompt", "input"):
        if isinstance(body.get(name), str):
            return [TextField((name,), body[name])]
    name, messages = message_list(body)
    for index, message in enumerate(messages):
        if message.get("role") == "user":
            return list(_content_texts(message.get("content"), (name, index, "content")))
    return []


def last_user_path(body: dict[str, Any]) -> FieldPath | None:
    """Where the last text of the last user's message is."""
    name, messages = message_list(body)
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "user":
            texts = list(_content_texts(messages[index].get("content"), (name, index, "content")))
            return texts[-1].path if texts else None
    prompts = first_user_texts(body)
    return prompts[-1].path if prompts else None


def all_texts(body: dict[str, Any]) -> Iterator[TextField]:
    """Every text of the prompt but the tools', in order."""
    yield from _system_field(body)
    for name in ("instructions", "prompt", "input"):
        if name in body:
            yield from _content_texts(body[name] if name != "input" or isinstance(body[name], str) else None, (name,))
    name, messages = message_list(body)
    for index, message in enumerate(messages):
        yield from _content_texts(message.get("content"), (name, index, "content"))


def _system_field(body: dict[str, Any]) -> Iterator[TextField]:
    texts = _content_texts(body.get("system"), ("system",))
    return (field for field in texts if not field.text.startswith(BILLING_HEADER))


def _content_texts(content: object, path: FieldPath) -> Iterator[TextField]:
    if isinstance(content, str):
        yield TextField(path, content)
    elif isinstance(content, list):
        for index, part in enumerate(content):
            if isinstance(part, str):
                yield TextField((*path, index), part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                yield TextField((*path, index, "text"), part["text"])


def with_value(body: dict[str, Any], path: FieldPath, value: object) -> dict[str, Any]:
    """The body with one value changed; what is not on the way there is shared with the original."""
    changed: dict[str, Any] = _with(body, path, value)
    return changed


def _with(container: Any, path: FieldPath, value: object) -> Any:  # noqa: ANN401  any JSON
    if not path:
        return value
    step, *rest = path
    copy = container.copy()
    copy[step] = _with(container[step], tuple(rest), value)
    return copy


def value_at(body: dict[str, Any], path: FieldPath) -> Any:  # noqa: ANN401  any JSON
    """The value at a path."""
    value: Any = body
    for step in path:
        value = value[step]
    return value
