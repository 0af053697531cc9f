"""Bad input gets vLLM's own answer, and the next request is served as if nothing had been."""

import json
from typing import Any

import httpx
import pytest

from serve_app.local.cluster import LocalRun
from tests.e2e.request_lines import reason_of

MIB = 2**20
MESSAGES = [{"role": "user", "content": "Hello"}]
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 1},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 1},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 1},
}
TEXT_FIELD = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"prompt": text},
    "/v1/messages": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/responses": lambda text: {"input": text},
}
MAX_ANSWER_BYTES = 65_536
HEAVY: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"input": [{}] * 300_000}),
    ("/v1/responses", {"input": [{"type": "web_search_call"}] * 60_000}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{}] * 300_000}]}),
    ("/v1/responses", {"input": [{"type": "web_search_call", "id": "x" * MIB}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": "x"}] * 40_000}),
    ("/v1/responses", {"input": "x", "tools": [{}] * 300_000}),
    ("/v1/chat/completions", {"messages": [{}] * 300_000}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * 50_000}),
    ("/v1/messages", {"messages": [{}] * 300_000, "max_tokens": 1}),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{}] * 300_000}], "max_tokens": 1}),
    ("/v1/completions", {"prompt": [{}] * 300_000}),
]
"""Up to 2 MiB, so that routers get all of them."""
KEYED = {"ring", "prefix", "spill", "no_key"}
# What the router makes of each: it keys what has a prompt, whatever else is wrong.
REASONS = {
    "unknown model": KEYED,
    "over-long prompt": {"rejected"},
    "wrong type": {"rejected"},
    "prompt of a wrong type": {"rejected"},
    "no prompt": {"no_prompt"},
    "8 MiB body": {"truncated_body"},
}


def body_with(fault: str, path: str, model: str) -> dict[str, Any]:
    """A good body, spoilt."""
    good = {"model": model, **GOOD[path]}
    match fault:
        case "unknown model":
            return good | {"model": "no-such-model"}
        case "over-long prompt":
            return good | TEXT_FIELD[path]("word " * 40_000)
        case "wrong type":
            return good | {"temperature": "hot"}
        case "prompt of a wrong type":
            return good | {next(iter(TEXT_FIELD[path](""))): 7}
        case "no prompt":
            return {key: value for key, value in good.items() if key not in {"messages", "prompt", "input"}}
        case "8 MiB body":
            return good | TEXT_FIELD[path]("x" * (8 * MIB))
    raise AssertionError(fault)


def assert_same_answer(client: httpx.Client, replica_client: httpx.Client, path: str, content: bytes) -> httpx.Response:
    """Through the whole path, and straight from a replica."""
    headers = {"content-type": "application/json"}
    routed = client.post(path, content=content, headers=headers)
    direct = replica_client.post(path, content=content, headers=headers)
    assert 400 <= direct.status_code < 500, direct.text[:500]
    assert (routed.status_code, routed.json()) == (direct.status_code, direct.json())
    return routed


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("fault", REASONS)
@pytest.mark.parametrize("path", GOOD)
def test_a_bad_body_gets_vllms_answer(
    run: LocalRun,
    client: httpx.Client,
    replica_client: httpx.Client,
    run_model: str,
    path: str,
    fault: str,
    stream: bool,
) -> None:
    """Status and body, for each API."""
    content = json.dumps(body_with(fault, path, run_model) | {"stream": stream}).encode()
    routed = assert_same_answer(client, replica_client, path, content)
    assert reason_of(run, routed) in REASONS[fault]
    next_one = client.post(path, json={"model": run_model, **GOOD[path]})
    assert next_one.status_code == 200, next_one.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_body"),
        (b"{", "not_json"),
        (b'{"model": "demo", "messages": [', "not_json"),
        (b"[]", "not_json"),
        (b"null", "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b"{}", "no_prompt"),
        (b'{"messages": null}', "rejected"),
        (b'{"broken": "' + b"x" * (9 * MIB), "truncated_body"),
    ],
    ids=["empty", "cut", "cut deeper", "array", "null", "not UTF-8", "no field", "null messages", "9 MiB, broken"],
)
@pytest.mark.parametrize("path", GOOD)
def test_what_is_no_request_gets_vllms_answer(
    run: LocalRun,
    client: httpx.Client,
    replica_client: httpx.Client,
    run_model: str,
    path: str,
    content: bytes,
    reason: str,
) -> None:
    """And is counted under its reason."""
    routed = assert_same_answer(client, replica_client, path, content)
    assert reason_of(run, routed) == reason
    assert client.post(path, json={"model": run_model, **GOOD[path]}).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"), HEAVY, ids=lambda each: each if isinstance(each, str) else next(iter(each))
)
def test_a_body_of_many_items_is_refused_in_a_few_words(
    run: LocalRun, client: httpx.Client, replica_client: httpx.Client, run_model: str, path: str, fields: dict[str, Any]
) -> None:
    """By the replica; the router has placed it without a look at each."""
    content = json.dumps({"model": run_model, **fields}, separators=(",", ":")).encode()
    assert len(content) <= 2 * MIB
    routed = assert_same_answer(client, replica_client, path, content)
    assert routed.status_code == 400
    assert len(routed.content) < MAX_ANSWER_BYTES
    assert reason_of(run, routed) == "rejected"
    assert client.post(path, json={"model": run_model, **GOOD[path]}).status_code == 200
