"""What the first reading of a log learns, and where each request of the second belongs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from serve_app.audit.application import Application, ApplicationKey, Applications, key_of
from serve_app.audit.histories import Histories, Rewriting
from serve_app.audit.layout import FieldPath, TextField, first_user_texts, system_texts, tool_list, with_value
from serve_app.audit.log_file import LogPlace
from serve_app.audit.logged_request import LoggedRequest
from serve_app.audit.text_groups import Located, Slot, TextGroup, TextGroups
from serve_app.audit.tool_sets import ToolSet, ToolSets

MIN_TOKENS = 1024
"""OpenAI's and, for most models, Anthropic's; vLLM caches every full block."""
SEPARATOR = "\x1e"
"""Between the texts of one request that are compared as one: a system prompt may have several parts."""


class Unit(NamedTuple):
    """Texts of a request that are compared with others' as one."""

    texts: tuple[TextField, ...]
    located: Located

    @property
    def group(self) -> TextGroup:
        """The group of the text's variants."""
        return self.located.group


class PlacedRequest(NamedTuple):
    """A request, and where it belongs. None for what it does not have."""

    request: LoggedRequest
    system: Unit | None
    user: Unit | None
    tool_set: ToolSet | None

    def units(self) -> Iterator[tuple[str, Unit]]:
        """Those that it has, by their names."""
        if self.system is not None:
            yield "system", self.system
        if self.user is not None:
            yield "user", self.user

    @property
    def application(self) -> ApplicationKey:
        """The key of the request's application."""
        return key_of(
            None if self.system is None else self.system.group,
            self.tool_set,
            None if self.user is None else self.user.group,
        )


@dataclass(slots=True)
class Rewritings:
    """How often one application's requests rewrote their history."""

    num_requests: int
    num_changed: int
    example: LogPlace | None
    first_changed: int


class Learned:
    """All that was learned of a log.

    Args:
        min_tokens: what providers cache at least.

    """

    def __init__(self, *, min_tokens: int = MIN_TOKENS) -> None:
        self.min_tokens = min_tokens
        self.systems, self.users, self.tool_texts = TextGroups(), TextGroups(), TextGroups()
        self.tool_sets = ToolSets()
        self.applications = Applications()
        self.application_to_rewritings: dict[ApplicationKey, Rewritings] = {}
        self._histories = Histories(is_remembering=False)
        self.num_requests = 0
        self._by_group: dict[tuple[str, int], Application] | None = None

    def see(self, request: LoggedRequest) -> None:
        """Learn from the next request."""
        self.num_requests += 1
        self._by_group = None
        number, place = self.num_requests, request.place
        system_text, user_text = joined(system_texts(request.body)), joined(first_user_texts(request.body))
        tool_set = None
        tools = tool_list(request.body)
        if tools:
            written = self.tool_sets.read(tools)
            tool_set = self.tool_sets.see(written, number, place)
            self.tool_texts.see(written.text, number, place)
        hint = None if tool_set is None else tool_set.number
        system = self.systems.see(system_text, number, place, hint) if system_text else None
        user = self.users.see(user_text, number, place) if user_text else None
        self.applications.see(request, number, system=system, tools=tool_set, user=user)
        self._note(key_of(system, tool_set, user), request, self._histories.see(request))

    def example_texts(self, unit: str, group: TextGroup) -> tuple[TextField, ...]:
        """Those of a request with a text of this group; none if no request is remembered."""
        application = self._group_to_application().get((unit, group.number))
        if application is None:
            return ()
        body = application.examples[0].body
        return tuple(system_texts(body) if unit == "system" else first_user_texts(body))

    def num_conversations(self, system: TextGroup) -> int:
        """Number of conversations with that system prompt, as far as they are told apart."""
        application = self._group_to_application().get(("system", system.number))
        return 0 if application is None else application.num_conversations

    def is_changing(self, system: TextGroup, slot: Slot) -> bool:
        """Whether a slot has other values within a conversation, all of which comes after the system prompt."""
        return len(slot.value_to_use) > self.num_conversations(system)

    def has_tools(self, system: TextGroup) -> bool:
        """Whether requests with that system prompt have tools."""
        application = self._group_to_application().get(("system", system.number))
        return application is not None and application.tools is not None

    def _group_to_application(self) -> dict[tuple[str, int], Application]:
        """The first one of each system prompt and first user's text."""
        if self._by_group is None:
            self._by_group = {}
            for application in self.applications:
                for unit, group in (("system", application.system), ("user", application.user)):
                    if group is not None:
                        self._by_group.setdefault((unit, group.number), application)
        return self._by_group

    def find(self, request: LoggedRequest) -> PlacedRequest:
        """Where a request that was seen belongs."""
        tools = tool_list(request.body)
        written = self.tool_sets.read(tools) if tools else None
        tool_set = None if written is None else self.tool_sets.find(written)
        return PlacedRequest(
            request,
            _unit(self.systems, system_texts(request.body), None if tool_set is None else tool_set.number),
            _unit(self.users, first_user_texts(request.body), None),
            tool_set,
        )

    def _note(self, key: ApplicationKey, request: LoggedRequest, rewriting: Rewriting | None) -> None:
        noted = self.application_to_rewritings.setdefault(key, Rewritings(0, 0, None, 0))
        noted.num_requests += 1
        if rewriting is not None:
            noted.num_changed += 1
            if noted.example is None:
                noted.example, noted.first_changed = request.place, rewriting.first_changed


def joined(texts: list[TextField]) -> str:
    """All texts as one."""
    return SEPARATOR.join(each.text for each in texts)


def with_unit(body: dict[str, Any], unit: Unit, text: str) -> dict[str, Any] | None:
    """The body with another text in place of the unit's; None if that has not as many parts."""
    parts = text.split(SEPARATOR)
    if len(parts) != len(unit.texts):
        return None
    for old, new in zip(unit.texts, parts, strict=True):
        if old.text != new:
            body = with_value(body, old.path, new)
    return body


def field_at(unit_texts: tuple[TextField, ...], offset: int) -> tuple[FieldPath, int]:
    """The field of a unit in which an offset of its text is, and the offset there."""
    for each in unit_texts:
        if offset <= len(each.text):
            return each.path, offset
        offset -= len(each.text) + len(SEPARATOR)
    last = unit_texts[-1]
    return last.path, len(last.text)


def _unit(groups: TextGroups, texts: list[TextField], hint: int | None) -> Unit | None:
    text = joined(texts)
    located = groups.locate(text, hint) if text else None
    return None if located is None else Unit(tuple(texts), located)
