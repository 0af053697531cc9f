"""Conversations whose earlier messages are changed, cut or summarised from turn to turn."""

from collections.abc import Iterator

from serve_app.audit.histories import Histories, num_leading_system
from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.layout import message_list, with_value
from serve_app.audit.learned import Learned, PlacedRequest


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Applications with such conversations."""
    for key, noted in learned.application_to_rewritings.items():
        if noted.num_changed and noted.example is not None:
            yield AuditFinding(
                KindName.HISTORY,
                str(key),
                f"messages[{noted.first_changed}]",
                None,
                noted.num_changed,
                noted.num_requests,
                noted.example,
                "a request has other messages than the one before it, which it continues",
            )


def make_fix(_learned: Learned) -> Fix:
    """Everything that was said is sent again, with what is new at its end."""
    histories = Histories(is_remembering=True)

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        rewriting = histories.see(seen.request)
        if rewriting is None or not rewriting.append_only:
            return None
        name, messages = message_list(seen.request.body)
        system = messages[: num_leading_system(messages)]
        return FixedRequest(
            with_value(seen.request.body, (name,), [*system, *rewriting.append_only]), str(seen.application)
        )

    return fix


KIND = DefectKind(
    KindName.HISTORY,
    "History rewritten instead of appended",
    "Only append. Where the context must shrink, cut rarely and much, and change nothing until the next cut.",
    find,
    make_fix,
)
