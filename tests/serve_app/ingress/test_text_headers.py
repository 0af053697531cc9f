"""Headers that are no text cost no client an answer, by what Serve itself does with those that are left."""

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app.control.environment import replica_environment
from serve_app.ingress.text_headers import TextHeaders, middlewares

GOOD = [(b"content-type", b"application/json"), (b"x-note", "Grüße\tan alle".encode())]
BAD = [
    (b"x-request-id", b"\xff\xfe"),
    (b"x-request-id", b"a\x00b"),
    (b"x-request-id", b"a\r\nset-cookie: b"),
    (b"x-session-id", b"\xc3("),
    (b"x-session-id", b"\xed\xa0\x80"),
    (b"x-session-id", b"\x1b[31m"),
    (b"x-request-timeout-seconds", b"\xff"),
    (b"x-request-disconnect-disabled", b"\xff"),
    (b"serve_multiplexed_model_id", b"\xff"),
    (b"traceparent", b"\xff"),
    (b"\xff", b"value"),
    (b"x-\x7f", b"value"),
]


async def receive() -> Message:
    """No body."""
    return {"type": "http.request"}


async def headers_behind(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What an app gets of a request's."""
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.extend(scope["headers"])

    async def send(_message: Message) -> None:
        raise AssertionError("the app does not answer")

    await TextHeaders(app)({"type": "http", "headers": list(headers)}, receive, send)
    return seen


@pytest.mark.parametrize("bad", BAD)
async def test_a_header_that_is_no_text_is_left_out(bad: tuple[bytes, bytes]) -> None:
    """And no other one."""
    assert await headers_behind(GOOD[0], bad, GOOD[1]) == GOOD


@pytest.mark.parametrize("bad", BAD)
async def test_serve_reads_what_is_left(bad: tuple[bytes, bytes]) -> None:
    """As its replicas read a request's headers, before any application gets it."""
    from ray.serve._private.constants import SERVE_HTTP_REQUEST_ID_HEADER
    from ray.serve._private.http_util import (
        _apply_middlewares,
        parse_disconnect_disabled_header,
        parse_request_timeout_header,
        parse_session_id_header,
    )

    answers: list[Message] = []

    async def serve(scope: Scope, _receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        request_id = headers[SERVE_HTTP_REQUEST_ID_HEADER.encode()].decode()
        assert request_id.isprintable()
        assert parse_request_timeout_header(headers, 5.0) == 5.0
        assert parse_disconnect_disabled_header(headers) is False
        assert parse_session_id_header(headers) == ""
        for name, value in headers.items():
            name.decode()
            value.decode()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        answers.append(message)

    app: Any = _apply_middlewares(serve, list(middlewares()))
    await app({"type": "http", "headers": [*GOOD, bad]}, receive, send)
    assert [each["status"] for each in answers] == [200]


async def test_what_has_no_headers_passes() -> None:
    """A lifespan, say."""
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    await TextHeaders(app)({"type": "lifespan"}, receive, lambda _: receive())
    assert seen == [{"type": "lifespan"}]


def test_serve_finds_the_hook_by_its_name() -> None:
    """In replicas."""
    from ray._common.utils import import_attr

    path = replica_environment()["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    assert import_attr(path.replace(":", ".")) is middlewares
