"""Who may see the figures: everybody, or whoever knows the token that operators have set in the environment."""

import hashlib
import hmac
from collections.abc import Mapping

TOKEN_VARIABLE = "WARMROUTE_OPS_TOKEN"  # noqa: S105  its name, not a token
"""Set it for every Ray node, from a secret; without it everybody may look."""
SURROGATES = "surrogatepass"
"""JSON may have halves of characters, which no token has."""
COOKIE = "warmroute_ops"
BEARER = "Bearer "


class Login:
    """A token that is sent with each request, or once for a cookie.

    The cookie is made from the token, so it ends when the token is changed, and is not the token itself.

    Args:
        token: None where everybody may look.

    Raises:
        ValueError: it is empty, as of a secret that was not filled in.

    """

    def __init__(self, token: str | None) -> None:
        if token == "":
            raise ValueError(f"{TOKEN_VARIABLE} is empty: give it a token, or do not set it, and everybody may look")
        self._token = token
        self.cookie = hmac.new((token or "").encode(errors=SURROGATES), COOKIE.encode(), hashlib.sha256).hexdigest()

    @property
    def is_needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def is_token(self, offered: str) -> bool:
        """Whether this is it, in a time that does not tell how much of it is right."""
        return self._token is not None and hmac.compare_digest(
            offered.encode(errors=SURROGATES), self._token.encode(errors=SURROGATES)
        )

    def admits(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """Whether a request may see the figures."""
        if not self.is_needed:
            return True
        authorization = headers.get("authorization", "")
        if authorization.startswith(BEARER) and self.is_token(authorization.removeprefix(BEARER)):
            return True
        return hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.cookie.encode())
