"""The replica's middleware: response headers that say where and why, and a receipt when a request is over."""

import logging
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.messages.response_headers import (
    BELIEVED_CACHED_TOKENS_HEADER,
    ENGINE_HEADER,
    POLICY_HEADER,
    PROMPT_TOKENS_HEADER,
    REASON_HEADER,
    REPLICA_HEADER,
    REQUEST_ID_HEADER,
    ROUTED_TO_HEADER,
    UNROUTED,
)
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.replica.authentication import CALLER
from serve_app.replica.request_log import RequestLog
from serve_app.replica.running_requests import RunningRequests, current_request_id
from serve_app.settings.schema import EngineName, ExplainHeaders
from serve_app.settings.tenant_names import TenantNames
from serve_app.tenants.directory import Caller

logger = logging.getLogger("ray.serve")


class ExplainAndReport:
    """ASGI middleware around vLLM's app; adds headers, changes nothing else.

    What a router estimated to be cached of a prompt tells what others have asked. So it is said only in the answer to a
    prompt that the engine has computed: whoever guesses pays for each guess, and then finds this guess cached.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        replica_id: str,
        running: RunningRequests,
        explain_headers: ExplainHeaders,
        engine: EngineName = "vllm",
        log: RequestLog | None = None,
        tenants: TenantNames,
        note_key: bytes,
    ) -> None:
        self._app = app
        self._explain_headers = explain_headers
        self._engine = engine
        self._replica_id = replica_id
        self._running = running
        self._log = log
        self._tenants = tenants
        self._note_key = note_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note = _read_note(scope, self._note_key)
        status: int | None = None

        async def send_explained(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._explain(note, status)]
            await send(message)

        if note is not None:
            tenant = self._tenant(scope)
            self._running.arrived(
                note.request_id,
                num_sequences=note.num_sequences,
                uncached_tokens=note.uncached_tokens,
                tenant=tenant,
                is_expected=note.replica_id == self._replica_id,
            )
        served = None if self._log is None else self._log.begin(note)
        token = current_request_id.set(note.request_id if note else None)
        try:
            await self._app(scope, receive, send_explained)
        finally:
            current_request_id.reset(token)
            if note is not None:
                self._running.finished(note.request_id)
            if self._log is not None and served is not None:
                self._log.end(served, scope, status=status)

    def _tenant(self, scope: Scope) -> str:
        """The tenant whose request it is: by its key where there are keys, and then by nothing else."""
        caller: Caller | None = scope.get(CALLER)
        return (
            self._tenants.of(scope["headers"]) if caller is None else self._tenants.counted_as(caller.tenant.encode())
        )

    def _explain(self, note: RoutingNote | None, status: int) -> list[tuple[bytes, bytes]]:
        """The replica writes these, because it alone knows who served."""
        if self._explain_headers == "off":
            return []
        fields: dict[str, object] = {
            ENGINE_HEADER: None if self._engine == "vllm" else self._engine,
            REQUEST_ID_HEADER: note.request_id if note else None,
        }
        if self._explain_headers == "full":
            fields |= self._full(note, status)
        return [(name.encode(), str(value).encode()) for name, value in fields.items() if value is not None]

    def _full(self, note: RoutingNote | None, status: int) -> dict[str, object]:
        """The headers that only `full` has.

        Headers go out with a stream's first event. The Responses API sends that before the engine has computed
        anything, so its streams stay as with `brief`.
        """
        if note is None:
            return {REPLICA_HEADER: self._replica_id, REASON_HEADER: UNROUTED}
        if not (HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and self._running.has_prefilled(note.request_id)):
            return {}
        return {
            REPLICA_HEADER: self._replica_id,
            POLICY_HEADER: note.policy,
            REASON_HEADER: note.reason,
            PROMPT_TOKENS_HEADER: note.prompt_tokens,
            BELIEVED_CACHED_TOKENS_HEADER: note.believed_cached_tokens,
            # Where HAProxy retried elsewhere.
            ROUTED_TO_HEADER: note.replica_id if note.replica_id != self._replica_id else None,
        }


def _read_note(scope: Scope, key: bytes) -> RoutingNote | None:
    """The router's note; None without one, and for one that no router of this cluster and version wrote."""
    value = next((value for name, value in scope["headers"] if name == NOTE_HEADER.encode()), None)
    if value is None:
        return None
    try:
        return RoutingNote.decode(value.decode(), key)
    except ValueError:
        logger.warning(
            "Not a note of our routers: do they and this replica run the same version, with the same secret?"
        )
        return None
