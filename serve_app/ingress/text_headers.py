"""Request headers become text before anything reads them.

Serve decodes the name of each header, and the values of some, and answers 500 to the client whose are not UTF-8. A
header of other bytes, or with control characters, has no meaning: the request is served without it.
"""

import re
from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""All control characters but the tab (RFC 9110, 5.5)."""


class TextHeaders:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, without headers that are no text."""
        if "headers" in scope:
            headers = [(name, value) for name, value in scope["headers"] if _is_text(name) and _is_text(value)]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


def middlewares() -> Sequence[Middleware]:
    """Serve's hook, in replicas."""
    return [Middleware(TextHeaders)]


def _is_text(field: bytes) -> bool:
    if CONTROL_CHARACTERS.search(field):
        return False
    try:
        field.decode()
    except UnicodeDecodeError:
        return False
    return True
