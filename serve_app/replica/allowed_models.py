"""Models that a key is not for: answered 403 by the body's `model`, before vLLM sees the request."""

from http import HTTPStatus

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.replica.authentication import CALLER
from serve_app.replica.refusal import refuse, refuse_web_socket
from serve_app.tenants.directory import Caller


class AllowedModels:
    """ASGI middleware around vLLM's app, where bodies are bounded already.

    Args:
        app: vLLM's.
        model: the model that a body without a `model` asks for.

    """

    def __init__(self, app: ASGIApp, *, model: str) -> None:
        self._app = app
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        caller: Caller | None = scope.get(CALLER)
        if caller is None or caller.models is None or (scope["type"] == "http" and scope["method"] != "POST"):
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await refuse_web_socket(receive, send)  # it would name its model only later
        else:
            await self._serve(caller, scope, receive, send)

    async def _serve(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        parts: list[Message] = []
        while True:
            parts.append(await receive())
            if not parts[-1].get("more_body", False):
                break
        model = self._asked(b"".join(part.get("body", b"") for part in parts))
        if not caller.may_ask(model):
            message = f"The model {model!r} does not exist, or this API key may not use it."
            await refuse(scope, send, HTTPStatus.FORBIDDEN, message)
            return
        left = iter(parts)

        async def receive_again() -> Message:
            return next(left, None) or await receive()

        await self._app(scope, receive_again, send)

    def _asked(self, body: bytes) -> str:
        """The model that a body asks for; empty, which is no one's, where it does not say that as JSON."""
        if not body:
            return self._model
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            return ""
        asked = fields.get("model") if isinstance(fields, dict) else None
        return asked if isinstance(asked, str) and asked else self._model
