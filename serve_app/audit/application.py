"""Requests of one application: with the same system prompt and tools, in whatever variants."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import xxhash

from serve_app.audit.layout import BILLING_HEADER, first_user_texts, tool_list
from serve_app.audit.log_file import LogPlace
from serve_app.audit.logged_request import LoggedRequest
from serve_app.audit.text_groups import Style, TextGroup, Use
from serve_app.audit.tool_sets import ToolSet
from serve_app.prompt.body import is_anthropic

MAX_APPLICATIONS = 5_000
MAX_EXAMPLES = 3
PARAMETERS = (
    "add_generation_prompt",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "documents",
    "reasoning_effort",
    "thinking",
    "truncate_prompt_tokens",
)
"""Of vLLM's APIs: those that make other tokens of the same messages. `tool_choice: none` is one, too: it takes the
tools out of the prompt."""
MAX_BREAKPOINTS = 4
"""Anthropic's."""


class ApplicationKey(NamedTuple):
    """An application by the numbers of its groups; 0 for none."""

    system: int
    tools: int
    user: int
    """Number of the first user's text, where there are neither system prompt nor tools."""


class Breakpoints(NamedTuple):
    """A request's `cache_control`s."""

    num: int
    first_static: int | None
    """The part of the system prompt with the first one before the conversation; -1 for a tool, None for none."""
    is_last_open: bool = False
    """Whether a conversation goes on, and its last message has none, so that the next turn computes it again."""


@dataclass(slots=True)
class Application:
    """What its requests have in common, and what they do differently."""

    key: ApplicationKey
    system: TextGroup | None
    tools: ToolSet | None
    user: TextGroup | None
    num_requests: int = 0
    parameters: Style = field(default_factory=Style)
    breakpoints: Style = field(default_factory=Style)
    """`Breakpoints` of requests in Anthropic's format."""
    examples: list[LoggedRequest] = field(default_factory=list)
    """A few requests, each of another conversation."""
    shared_tokens: int | None = None
    """How many tokens the examples begin with alike; None until that is measured, or for one conversation."""
    shareable_tokens: int | None = None
    """The same, were everything fixed that can be."""
    opening_hashes: set[int] = field(default_factory=set)
    """Hashes of what users said first, of some of them."""

    def add(self, request: LoggedRequest, number: int) -> None:
        """Count one more request."""
        use = Use(1, number, number, request.place)
        self.num_requests += 1
        self.parameters.add((orjson.dumps(parameters_of(request.body)),), use)
        if takes_breakpoints(request.body):
            self.breakpoints.add(breakpoints_of(request.body), use)
        opening_hash = xxhash.xxh3_64_intdigest(
            "\x1e".join(each.text for each in first_user_texts(request.body)).encode(errors="surrogatepass")
        )
        if opening_hash not in self.opening_hashes and len(self.opening_hashes) < 64 * MAX_EXAMPLES:
            self.opening_hashes.add(opening_hash)
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(request)

    @property
    def place(self) -> LogPlace:
        """The place of its first request."""
        return self.examples[0].place

    @property
    def num_conversations(self) -> int:
        """Number of conversations that were told apart, up to a limit."""
        return len(self.opening_hashes)


class Applications:
    """All applications of a log; those that were seen longest ago make room."""

    def __init__(self) -> None:
        self._key_to_application: OrderedDict[ApplicationKey, Application] = OrderedDict()

    def __iter__(self) -> Iterator[Application]:
        return iter(self._key_to_application.values())

    def see(
        self,
        request: LoggedRequest,
        number: int,
        *,
        system: TextGroup | None,
        tools: ToolSet | None,
        user: TextGroup | None,
    ) -> None:
        """Count the next request for its application."""
        key = key_of(system, tools, user)
        found = self._key_to_application.get(key)
        if found is None:
            found = self._key_to_application[key] = Application(key, system, tools, user)
            if len(self._key_to_application) > MAX_APPLICATIONS:
                self._forget_oldest()
        self._key_to_application.move_to_end(key)
        found.add(request, number)

    def get(self, key: ApplicationKey) -> Application | None:
        """The application of a key; None if there is none."""
        return self._key_to_application.get(key)

    def _forget_oldest(self) -> None:
        oldest = [key for key, _ in zip(self._key_to_application, range(64), strict=False)]
        once = (key for key in oldest if self._key_to_application[key].num_requests <= 1)
        del self._key_to_application[next(once, oldest[0])]


def key_of(system: TextGroup | None, tools: ToolSet | None, user: TextGroup | None) -> ApplicationKey:
    """The key of a request's application, by the groups of its texts."""
    is_bare = system is None and tools is None
    return ApplicationKey(
        0 if system is None else system.number,
        0 if tools is None else tools.number,
        user.number if is_bare and user is not None else 0,
    )


def parameters_of(body: dict[str, Any]) -> dict[str, Any]:
    """The parameters that change tokens, as far as they are set."""
    parameters = {name: body[name] for name in PARAMETERS if body.get(name) is not None}
    if body.get("tool_choice") == "none" and tool_list(body):
        parameters["tool_choice"] = "none"
    return parameters


def takes_breakpoints(body: dict[str, Any]) -> bool:
    """Whether it is for an API that has them, or has some."""
    return "messages" in body and (is_anthropic(body) or breakpoints_of(body).num > 0)


def breakpoints_of(body: dict[str, Any]) -> Breakpoints:
    """All breakpoints of a request."""
    tools = sum(map(_is_marked, tool_list(body)))
    system = body.get("system")
    written = [part for part in system if not _is_billing_header(part)] if isinstance(system, list) else []
    parts = [index for index, part in enumerate(written) if _is_marked(part)]
    talk = list(map(_num_marked, body.get("messages") or ()))
    first = -1 if tools else next(iter(parts), None)
    return Breakpoints(tools + len(parts) + sum(talk), first, len(talk) > 1 and not talk[-1])


def _num_marked(message: dict[str, Any]) -> int:
    content = message.get("content")
    return _is_marked(message) + (sum(map(_is_marked, content)) if isinstance(content, list) else 0)


def _is_billing_header(part: object) -> bool:
    return isinstance(part, dict) and str(part.get("text")).startswith(BILLING_HEADER)


def _is_marked(part: object) -> bool:
    return isinstance(part, dict) and "cache_control" in part
