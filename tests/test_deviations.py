"""What makes a replica deviate, without a replica."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from tests.deviations import Meddler


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


@pytest.mark.parametrize(
    ("deviation", "body", "expected"),
    [
        ("salt", {"prompt": "p", "cache_salt": "s"}, {"prompt": "p"}),
        ("salt", [1], [1]),
        ("block_size", {"prompt": "p", "cache_salt": "s"}, {"prompt": "p", "cache_salt": "s"}),
        (None, {"prompt": "p", "cache_salt": "s"}, {"prompt": "p", "cache_salt": "s"}),
    ],
)
async def test_salts_are_left_out_where_that_is_the_deviation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deviation: str | None, body: Any, expected: Any
) -> None:
    """And nothing is changed otherwise."""
    file = tmp_path / "deviation"
    monkeypatch.setenv("WARMROUTE_DEVIATION", str(file))
    if deviation is not None:
        file.write_text(deviation)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=Meddler(echo)), base_url="http://x") as client:
        assert orjson.loads((await client.post("/", content=orjson.dumps(body))).content) == expected
