"""The production checklist of prompt caching, checked against a log."""

from enum import StrEnum
from typing import NamedTuple

from serve_app.audit.audit import Audit
from serve_app.audit.kind import KindName


class ItemVerdict(StrEnum):
    """An item's verdict."""

    DONE = "done"
    OPEN = "open"
    NOT_APPLICABLE = "-"


class Item(NamedTuple):
    """One line of the checklist."""

    text: str
    verdict: ItemVerdict
    why: str


ITEM_TO_KINDS = {
    "Static content first": (KindName.VOLATILE, KindName.LATE_STATIC),
    "Breakpoints where they are needed, four at most": (KindName.BREAKPOINTS,),
    "A version for each static block": (KindName.VERSION,),
    "Tools, JSON and texts in one form": (KindName.TOOL_ORDER, KindName.JSON_FORM, KindName.TRIVIA),
    "One setting of what changes tokens": (KindName.PARAMETERS,),
    "Conversations only appended to": (KindName.HISTORY,),
    "Nothing secret or personal in what is shared": (KindName.SECRET, KindName.PERSONAL_DATA),
}


def checklist(audit: Audit, *, min_tokens: int, hit_rate_target: float) -> list[Item]:
    """The checklist, item by item."""
    items = [_longest_prefix(audit, min_tokens)]
    for text, kinds in ITEM_TO_KINDS.items():
        found = [each for each in audit.findings if each.kind in kinds]
        if kinds == (KindName.BREAKPOINTS,) and not _has_breakpoints(audit):
            items.append(Item(text, ItemVerdict.NOT_APPLICABLE, "no request is for an API that has them"))
        elif found:
            places = ", ".join(sorted({each.where for each in found})[:3])
            items.append(Item(text, ItemVerdict.OPEN, f"{len(found)} finding{'s' if len(found) > 1 else ''}: {places}"))
        else:
            items.append(Item(text, ItemVerdict.DONE, ""))
    rate = audit.as_is.hit_rate
    verdict = ItemVerdict.DONE if rate >= hit_rate_target else ItemVerdict.OPEN
    items.append(Item(f"A hit rate of {hit_rate_target:.0%} and more", verdict, f"{rate:.1%}"))
    return items


def _longest_prefix(audit: Audit, min_tokens: int) -> Item:
    text = f"A stable prefix of {min_tokens:,} tokens and more"
    tokens = (each.application.shared_tokens for each in audit.applications)
    shared = [each for each in tokens if each is not None]
    if not shared:
        return Item(text, ItemVerdict.NOT_APPLICABLE, "no application has several conversations")
    num_short = sum(each < min_tokens for each in shared)
    why = f"the longest is {max(shared):,} tokens; {num_short} of {len(shared)} applications have less"
    return Item(text, ItemVerdict.OPEN if num_short else ItemVerdict.DONE, why)


def _has_breakpoints(audit: Audit) -> bool:
    return any(each.application.breakpoints.signature_to_use for each in audit.applications)
