"""How an application's prompts should be laid out: what is static first, with breakpoints, and what changes last."""

from typing import NamedTuple

from serve_app.audit.application import Application
from serve_app.audit.slot_kinds import SlotKind, slot_kind
from serve_app.audit.text_groups import TextGroup

MOVED = frozenset({SlotKind.VOLATILE, SlotKind.CONTENT})


class Part(NamedTuple):
    """A part of a prompt; parts stand in their order."""

    name: str
    what: str
    num_chars: int | None
    """Number of characters that all requests have here; None where that differs."""
    has_breakpoint: bool


def suggested_layout(application: Application) -> list[Part]:
    """The parts, from the first to the last, without any text of a prompt."""
    parts = []
    if application.tools is not None:
        names = next(iter(application.tools.order.signature_to_use))
        parts.append(
            Part(
                "tools",
                f"{len(names)} tools, by name, with sorted keys",
                None,
                has_breakpoint=application.system is None,
            )
        )
    moved: list[str] = []
    if application.system is not None:
        parts.append(_static("system", application.system, has_breakpoint=True))
        moved += _moved(application.system)
    if application.user is not None and application.user.template.spans:
        parts.append(_static("first user message", application.user, has_breakpoint=False))
        moved += _moved(application.user)
    parts.append(Part("conversation", "what was said, unchanged, new messages at its end", None, has_breakpoint=True))
    if moved:
        parts.append(Part("last user message", f"at its end: {', '.join(moved)}", None, has_breakpoint=False))
    return parts


def _static(name: str, group: TextGroup, *, has_breakpoint: bool) -> Part:
    num_chars = sum(map(len, group.template.stretches))
    return Part(name, "what all requests have, in its order", num_chars, has_breakpoint)


def _moved(group: TextGroup) -> list[str]:
    kinds = (slot_kind(group, index, slot) for index, slot in enumerate(group.slots()))
    return [what for kind, what in kinds if kind in MOVED]
