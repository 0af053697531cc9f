"""Who may see the figures: everybody, or whoever knows the token that operators have set in the environment."""

import hashlib
import hmac
from collections.abc import Mapping

TOKEN_VARIABLE = "WARMROUTE_OPS_TOKEN"  # noqa: S105  its name, not a token
"""Set it for every Ray node, from a secret; without it everybody may look."""
COOKIE = "warmroute_ops"
BEARER = "Bearer "


class Login:
    """A token that is sent with each request, or once for a cookie.

    The cookie is made from the token, so it ends when the token is changed, and is not the token itself.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token or None
        self.cookie = hmac.new((token or "").encode(), COOKIE.encode(), hashlib.sha256).hexdigest()

    @property
    def is_needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def is_token(self, offered: str) -> bool:
        """Whether this is it, in a time that does not tell how much of it is right."""
        return self._token is not None and hmac.compare_digest(offered.encode(), self._token.encode())

    def admits(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """Whether a request may see the figures."""
        if not self.is_needed:
            return True
        authorization = headers.get("authorization", "")
        if authorization.startswith(BEARER) and self.is_token(authorization.removeprefix(BEARER)):
            return True
        return hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.cookie.encode())
