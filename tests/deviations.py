"""Makes a replica of a real server deviate from the others. For experiments, by the settings of the server:

llm.callback_config.callback_class: tests.deviations.deviating_callback
llm.engine_kwargs.middleware: [tests.deviations.Meddler]
llm.runtime_env.env_vars.WARMROUTE_DEVIATION: a file

A replica reads the file when it starts, so a change concerns the next one that does: without the file, nobody deviates.
"""

import json
import os
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEVIATION_TO_ENGINE_KWARGS: dict[str, dict[str, Any]] = {
    "block_size": {"block_size": 64},
    "no_cache": {"enable_prefix_caching": False},
}


def read_deviation() -> str:
    """One of those above, `salt`, or empty."""
    file = Path(os.environ["WARMROUTE_DEVIATION"])
    return file.read_text().strip() if file.exists() else ""


def deviating_callback(**kwargs: Any) -> Any:
    """Ray's callback, which changes the engine's arguments before it starts."""
    from ray.llm._internal.common.callbacks.base import CallbackBase

    class Callback(CallbackBase):  # type: ignore[misc]
        async def on_before_node_init(self) -> None:
            arguments = DEVIATION_TO_ENGINE_KWARGS.get(read_deviation(), {})
            self.llm_config.get_engine_config().engine_kwargs.update(arguments)

    return Callback(**kwargs)


class Meddler:
    """Middleware before vLLM that leaves out salts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._has_salts = read_deviation() != "salt"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._has_salts or scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, is_more = b"", True
        while is_more:
            part = await receive()
            body, is_more = body + part.get("body", b""), part.get("more_body", False)
        parts = iter([{"type": "http.request", "body": _without_salt(body), "more_body": False}])

        async def receive_changed() -> Message:
            return next(parts, None) or await receive()

        await self._app(scope, receive_changed, send)


def _without_salt(body: bytes) -> bytes:
    try:
        fields = json.loads(body)
    except ValueError:
        return body
    if isinstance(fields, dict):
        fields.pop("cache_salt", None)
    return json.dumps(fields).encode()
