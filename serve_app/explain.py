"""The replica's middleware: response headers that say where and why, and a receipt when a request is over."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.ledger import Ledger, current_request_id
from serve_app.replica_headers import (
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
from serve_app.request_log import RequestLog
from serve_app.routing_note import NOTE_HEADER, RoutingNote
from serve_app.settings import EngineName
from serve_app.tenants import Tenants

logger = logging.getLogger("ray.serve")


class ExplainAndReport:
    """ASGI middleware around vLLM's app; adds headers, changes nothing else."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        replica_id: str,
        ledger: Ledger,
        engine: EngineName = "vllm",
        log: RequestLog | None = None,
        tenants: Tenants,
        note_key: bytes,
    ) -> None:
        self._app = app
        self._own_fields: dict[str, object] = {REPLICA_HEADER: replica_id}
        if engine != "vllm":
            self._own_fields[ENGINE_HEADER] = engine
        self._replica_id = replica_id
        self._ledger = ledger
        self._log = log
        self._tenants = tenants
        self._note_key = note_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note = _read_note(scope, self._note_key)
        explanation = self._explain(note)
        status: int | None = None

        async def send_explained(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *explanation]
            await send(message)

        if note is not None:
            tenant = self._tenants.of(scope["headers"])
            self._ledger.arrived(note.request_id, uncached_tokens=note.uncached_tokens, tenant=tenant)
        served = None if self._log is None else self._log.begin(note)
        token = current_request_id.set(note.request_id if note else None)
        try:
            await self._app(scope, receive, send_explained)
        finally:
            current_request_id.reset(token)
            if note is not None:
                self._ledger.finished(note.request_id)
            if self._log is not None and served is not None:
                self._log.end(served, scope, status=status)

    def _explain(self, note: RoutingNote | None) -> list[tuple[bytes, bytes]]:
        """The replica writes these, because it alone knows who served."""
        fields = dict(self._own_fields)
        if note is None:
            fields[REASON_HEADER] = UNROUTED
        else:
            fields |= {
                REQUEST_ID_HEADER: note.request_id,
                POLICY_HEADER: note.policy,
                REASON_HEADER: note.reason,
                PROMPT_TOKENS_HEADER: note.prompt_tokens,
                BELIEVED_CACHED_TOKENS_HEADER: note.believed_cached_tokens,
            }
            if note.replica_id != self._replica_id:  # HAProxy retried elsewhere
                fields[ROUTED_TO_HEADER] = note.replica_id
        return [(name.encode(), str(value).encode()) for name, value in fields.items() if value is not None]


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
