"""What an audit looks for. To look for more, write a module with a `Kind` and add it here."""

from serve_app.audit.kind import DefectKind
from serve_app.audit.kinds import (
    breakpoints,
    history,
    json_form,
    late_static,
    parameters,
    personal_data,
    secret,
    short_prefix,
    tool_order,
    trivia,
    version_marker,
    volatile_content,
)

KINDS: tuple[DefectKind, ...] = (
    volatile_content.KIND,
    late_static.KIND,
    trivia.KIND,
    version_marker.KIND,
    tool_order.KIND,
    json_form.KIND,
    history.KIND,
    parameters.KIND,
    short_prefix.KIND,
    breakpoints.KIND,
    secret.KIND,
    personal_data.KIND,
)
