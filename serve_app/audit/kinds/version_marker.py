"""Static text that changed without its version, and versions that changed without their text."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.slots import SlotPlace, finding, places, usual_values, with_usual
from serve_app.audit.learned import Learned, PlacedRequest
from serve_app.audit.slot_kinds import SlotKind


def _group_to_places(learned: Learned) -> dict[int, list[SlotPlace]]:
    group_to_places: dict[int, list[SlotPlace]] = {}
    for place in places(learned):
        if place.unit == "system" and place.kind in {SlotKind.VERSION, SlotKind.EDIT}:
            group_to_places.setdefault(place.group.number, []).append(place)
    return group_to_places


def find(learned: Learned) -> Iterator[AuditFinding]:
    """System prompts with such changes. All edits of a text are one finding, in the place of the first."""
    for of_group in _group_to_places(learned).values():
        markers = [place for place in of_group if place.kind is SlotKind.VERSION]
        edits = [place for place in of_group if place.kind is SlotKind.EDIT]
        if edits and not markers:
            what = (
                f"the text was edited in {len(edits)} place{'s' if len(edits) > 1 else ''}, and no version marker tells"
            )
            yield finding(learned, KindName.VERSION, edits[0], what)
        elif markers and not edits:
            yield finding(
                learned,
                KindName.VERSION,
                markers[0],
                f"{len(markers[0].slot.value_to_use)} versions of a text that is the same",
            )


def make_fix(learned: Learned) -> Fix:
    """One version for one text. Edits cannot be fixed: they are what was wanted."""
    group_to_usual = {
        ("system", number): usual_values(of_group)
        for number, of_group in _group_to_places(learned).items()
        if all(place.kind is SlotKind.VERSION for place in of_group)
    }

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        return with_usual(seen, group_to_usual, is_kept=False)

    return fix


KIND = DefectKind(
    KindName.VERSION,
    "Version marker missing or changed for nothing",
    "Give each static block a version that changes when its text does, and only then: each change is a cold cache.",
    find,
    make_fix,
)
