"""Errors are as short as they can be, and everything else is as it was."""

from typing import Any

import httpx
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from serve_app.replica.brief_errors import MAX_ANSWER_BYTES, MAX_TEXT_CHARS, BriefErrors


async def answered(status: int, *parts: bytes, content_length: bool = True) -> httpx.Response:
    """What becomes of an app's answer."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        length = [(b"content-length", str(sum(map(len, parts))).encode())] if content_length else []
        headers = [(b"content-type", b"application/json"), *length]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, part in enumerate(parts, start=1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    transport = httpx.ASGITransport(BriefErrors(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        return await client.get("/")


def error(message: str) -> dict[str, Any]:
    """An error as vLLM writes it."""
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}


async def test_what_a_client_sent_is_not_sent_back_in_full() -> None:
    """Everything else of the error is."""
    response = await answered(400, orjson.dumps(error("x" * 1_000_000)))
    assert response.json() == error("x" * MAX_TEXT_CHARS + " ...")
    assert response.headers["content-length"] == str(len(response.content))
    assert len(response.content) < MAX_ANSWER_BYTES


async def test_an_error_in_parts_is_put_together() -> None:
    """Also where its length is not said."""
    content = orjson.dumps(error("x" * 100_000))
    response = await answered(404, content[:10], content[10:50_000], content[50_000:], content_length=False)
    assert response.json() == error("x" * MAX_TEXT_CHARS + " ...")


@pytest.mark.parametrize("content", [b"", b"no JSON", orjson.dumps(error("short")), orjson.dumps(error("x" * 8000))])
async def test_a_short_error_is_left_alone(content: bytes) -> None:
    """Byte for byte."""
    assert (await answered(400, content)).content == content


async def test_a_long_text_is_cut() -> None:
    """Which is not JSON."""
    assert (await answered(500, b"x" * 100_000)).content == b"x" * MAX_TEXT_CHARS


async def test_an_answer_may_be_long() -> None:
    """And comes in its parts."""
    parts = [orjson.dumps(error("x" * 100_000)), b"more"]
    assert (await answered(200, *parts)).content == b"".join(parts)
