"""Who may see the figures: whoever knows the token that operators have set in the environment, or everyone, if the
settings say so; otherwise no one.

The number of guesses at the token is limited (`guess_limit.py`). A limit on guesses must not become a way to lock
operators out, so two things are not guesses. A cookie is checked before anything else: its 256 bits cannot be found by
trying. And a token of at least `LONG_CHARS` characters cannot either, so that the right one is taken at any time, as
long as anyone else may try wrong ones. A shorter token is not looked at while the limit is reached: if the right one
were taken then, trying would go on to pay.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from math import ceil

from serve_app.ops.guess_limit import GuessLimit

logger = logging.getLogger("ray.serve")

TOKEN_VARIABLE = "WARMROUTE_OPS_TOKEN"  # noqa: S105  its name, not a token
"""Set it for every Ray node, from a secret."""
OPEN_SETTING = "ops.open"
LONG_CHARS = 32
"""128 bits as hexadecimal digits, which `openssl rand -hex 24` exceeds."""
SESSION_S = 12 * 3600
"""How long a login lasts: a working day."""
SURROGATES = "surrogatepass"
"""JSON may have halves of characters, which no token has."""
COOKIE = "warmroute_ops"
BEARER = "Bearer "


class TooManyGuessesError(Exception):
    """The token may not be guessed for some time; the message says for how long."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong tokens: try again in {ceil(wait_s)} s")
        self.wait_s = wait_s


class Login:
    """A token that is sent with each request, or once for a cookie.

    The cookie is the time until which it is good, signed with the token. So it ends by itself, and when the token is
    changed, and nothing needs to be remembered of it. Use it from one thread.

    Args:
        token: None where there is none.
        is_open: whether everyone may look, if there is none.
        guess_limit: of wrong tokens.
        clock: Unix time in seconds.

    Raises:
        ValueError: the token is empty, as of a secret that was not filled in.

    """

    def __init__(
        self,
        token: str | None,
        *,
        is_open: bool = False,
        guess_limit: GuessLimit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if token == "":
            raise ValueError(
                f"{TOKEN_VARIABLE} is empty: give it a token, or do not set it and let everyone look by "
                f"`{OPEN_SETTING}: true`"
            )
        self._token = token
        self._is_open = is_open
        self._guess_limit = GuessLimit() if guess_limit is None else guess_limit
        self._clock = clock
        self._is_long = token is not None and len(token) >= LONG_CHARS
        if self.is_needed and not self._is_long:
            logger.warning(
                "%s has less than %d characters, so that others who guess it can lock you out for as long as they do: "
                "make one by `openssl rand -hex 24`",
                TOKEN_VARIABLE,
                LONG_CHARS,
            )

    @property
    def is_needed(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    @property
    def fault(self) -> str | None:
        """Why no one may look, and what to do; None if someone may."""
        if self.is_needed or self._is_open:
            return None
        return (
            f"the operators' application is closed: set {TOKEN_VARIABLE} to a secret token in the environment of every "
            f"Ray node, or let everyone look by `{OPEN_SETTING}: true` in the settings"
        )

    def admits(self, headers: Mapping[str, str], cookies: Mapping[str, str], *, address: str) -> bool:
        """Whether a request from there may see the figures.

        Raises:
            TooManyGuessesError: it has a token, and that is not looked at.

        """
        if not self.is_needed:
            return self._is_open
        if self._is_session(cookies.get(COOKIE, "")):
            return True
        authorization = headers.get("authorization", "")
        return authorization.startswith(BEARER) and self.takes(authorization.removeprefix(BEARER), address=address)

    def takes(self, offered: str, *, address: str) -> bool:
        """Whether this is the token; any is where none is needed.

        Raises:
            TooManyGuessesError: it is not looked at, or is wrong, and too many were wrong before.

        """
        if not self.is_needed:
            return self._is_open
        wait_s = self._guess_limit.wait_s(address)
        if wait_s and not self._is_long:
            raise TooManyGuessesError(wait_s)
        if self._is_token(offered):
            return True
        if wait_s:
            raise TooManyGuessesError(wait_s)
        self._guess_limit.count(address)
        return False

    def new_cookie(self) -> str:
        """A cookie for someone who had the token."""
        until_s = str(int(self._clock()) + SESSION_S)
        return f"{until_s}.{self._signature(until_s)}"

    def _is_session(self, cookie: str) -> bool:
        until_s, _, signature = cookie.partition(".")
        if not _is_same(signature, self._signature(until_s)):
            return False
        return 0 < int(until_s) - self._clock() <= SESSION_S  # more has one that was made while the clock was ahead

    def _signature(self, until_s: str) -> str:
        message = f"{COOKIE} {until_s}"
        key = (self._token or "").encode(errors=SURROGATES)
        return hmac.new(key, message.encode(errors=SURROGATES), hashlib.sha256).hexdigest()

    def _is_token(self, offered: str) -> bool:
        return self._token is not None and _is_same(offered, self._token)


def _is_same(offered: str, right: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return hmac.compare_digest(offered.encode(errors=SURROGATES), right.encode(errors=SURROGATES))
