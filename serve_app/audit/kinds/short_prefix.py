"""Applications whose shared prefix is shorter than what providers cache."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, KindName
from serve_app.audit.learned import Learned

MIN_CONVERSATIONS = 3
"""With fewer conversations, it is not known yet what they will share."""


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Applications of several conversations that share something, and too little."""
    for application in learned.applications:
        shared, min_tokens = application.shareable_tokens, learned.min_tokens
        if application.num_conversations >= MIN_CONVERSATIONS and shared is not None and 0 < shared < min_tokens:
            yield AuditFinding(
                KindName.SHORT_PREFIX,
                str(application.key),
                "system" if application.system is not None else "messages[0]",
                None,
                application.num_requests,
                application.num_requests,
                application.place,
                f"its conversations share {shared:,} tokens; {min_tokens:,} are the least that providers cache",
            )


KIND = DefectKind(
    KindName.SHORT_PREFIX,
    "Shared prefix under the minimum",
    "Put what all need first (tools, examples, documents), or do not count on a provider's cache here.",
    find,
)
