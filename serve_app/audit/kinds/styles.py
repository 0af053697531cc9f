"""What the kinds share that look at the ways in which one thing is written."""

from serve_app.audit.kind import AuditFinding, KindName
from serve_app.audit.text_groups import Style


def finding(kind: KindName, subject: str, where: str, style: Style, what: str) -> AuditFinding:
    """A finding about a thing that is written in several ways: its requests that do not have the most usual one."""
    uses = sorted(style.signature_to_use.values(), key=lambda use: -use.num_requests)
    num_requests = sum(use.num_requests for use in uses)
    return AuditFinding(kind, subject, where, None, style.num_others, num_requests, uses[1].place, what)
