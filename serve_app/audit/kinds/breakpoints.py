"""Anthropic's `cache_control`: missing, in the wrong place, or too many.

Such a finding has no cost: the cache of the replay needs no breakpoints, so that a fix changes no token of it.
"""

from collections.abc import Iterator

from serve_app.audit.application import MAX_BREAKPOINTS, Application, Breakpoints
from serve_app.audit.kind import AuditFinding, DefectKind, KindName
from serve_app.audit.learned import SEPARATOR, Learned
from serve_app.audit.slot_kinds import SlotKind, slot_kind
from serve_app.audit.text_groups import TextGroup

NONE, TOO_MANY, IN_TALK = "none", "too many", "only in the conversation"
AFTER, LAST = "after content that changes", "not on the last message"
PROBLEM_TO_WORDS = {
    NONE: ("cache_control", "no breakpoint: where they are needed, nothing is cached"),
    TOO_MANY: ("cache_control", f"more than {MAX_BREAKPOINTS} breakpoints, which the API refuses"),
    IN_TALK: ("messages", "no breakpoint after tools and system prompt: other conversations share nothing"),
    AFTER: (
        "system",
        "the first breakpoint comes after content that changes, so that no other request has that prefix",
    ),
    LAST: ("messages", "no breakpoint on the last message: the next turn computes the conversation again"),
}


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Applications of several conversations, whose static part could be shared."""
    for application in learned.applications:
        first_changing = _first_changing_part(application.system)
        for signature, use in application.breakpoints.signature_to_use.items():
            problem = _problem(application, Breakpoints(*signature), first_changing)  # type: ignore[arg-type]  # as made
            if not problem or (application.num_conversations < 2 and problem != TOO_MANY):  # noqa: PLR2004  to share
                continue
            where, what = PROBLEM_TO_WORDS[problem]
            yield AuditFinding(
                KindName.BREAKPOINTS,
                _subject(application, problem),
                where,
                None,
                use.num_requests,
                application.num_requests,
                use.place,
                what,
            )


def _problem(application: Application, breakpoints: Breakpoints, first_changing: int | None) -> str:
    if breakpoints.num == 0:
        return NONE
    if breakpoints.num > MAX_BREAKPOINTS:
        return TOO_MANY
    if breakpoints.first_static is None:
        return IN_TALK if application.system is not None or application.tools is not None else ""
    if first_changing is not None and breakpoints.first_static >= first_changing:
        return AFTER
    return LAST if breakpoints.is_last_open else ""


def _first_changing_part(group: TextGroup | None) -> int | None:
    """The first part of a system prompt that changes from request to request; None if none does."""
    if group is None:
        return None
    for index, slot in enumerate(group.slots()):
        if slot_kind(group, index, slot)[0] in {SlotKind.VOLATILE, SlotKind.CONTENT}:
            return group.text[: slot.start].count(SEPARATOR)
    return None


def _subject(application: Application, problem: str) -> str:
    return f"{application.key} {problem}"


KIND = DefectKind(
    KindName.BREAKPOINTS,
    "Breakpoints missing, misplaced or too many",
    f"Mark the last tool or the last static part of the system prompt, and the last message; {MAX_BREAKPOINTS} at most",
    find,
)
