"""What an audit looks for: a kind of defect, how it is found, and what fixing it would change."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from serve_app.audit.learned import Learned, PlacedRequest
from serve_app.audit.log_file import LogPlace


class KindName(StrEnum):
    """The names of all kinds, in the order of what a prompt is made of."""

    VOLATILE = "volatile-content"
    LATE_STATIC = "static-part-late"
    TRIVIA = "trivia"
    VERSION = "version-marker"
    TOOL_ORDER = "tool-order"
    JSON_FORM = "json-form"
    HISTORY = "history-rewritten"
    PARAMETERS = "parameters"
    SHORT_PREFIX = "short-prefix"
    BREAKPOINTS = "breakpoints"
    SECRET = "secret"  # noqa: S105
    PERSONAL_DATA = "personal-data"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A defect in one place of an application's prompts."""

    kind: KindName
    subject: str
    """The finding's name, which requests that are fixed refer to; unique within the kind."""
    where: str
    """The field, as `messages[0].content`."""
    offset: int | None
    """Number of characters before it in the field."""
    num_requests: int
    """Number of requests that are affected."""
    num_in_group: int
    """Number of requests that should be alike."""
    example: LogPlace
    """The place of an affected request."""
    what: str
    """The defect in words, without any text of a prompt."""


class FixedRequest(NamedTuple):
    """A request as it should have been."""

    body: dict[str, Any]
    subject: str
    """The finding's subject."""


Find = Callable[[Learned], Iterable[AuditFinding]]
Fix = Callable[[PlacedRequest], FixedRequest | None]
"""None for a request that has nothing of it."""


@dataclass(frozen=True, slots=True)
class DefectKind:
    """One kind of defect.

    Another one is a value of this class in `kinds.KINDS`. `find` sees what the first reading learned. `make_fix`, if
    fixing changes tokens, is called once before the second reading, and what it returns for each request in order:
    None, or the body as it should have been. It must not change the body that it is given.
    """

    name: KindName
    title: str
    remedy: str
    """How to fix it."""
    find: Find
    make_fix: Callable[[Learned], Fix] | None = None
