"""Each API through the whole path: HAProxy, router, replica."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from serve_app.control.running_application import RunningApplication
from serve_app.messages.response_headers import (
    BELIEVED_CACHED_TOKENS_HEADER,
    EXPLAIN_PREFIX,
    POLICY_HEADER,
    PROMPT_TOKENS_HEADER,
    REASON_HEADER,
    REPLICA_HEADER,
    REQUEST_ID_HEADER,
    UNROUTED,
)

TOOL = {
    "type": "function",
    "function": {"name": "find_train", "description": "Find a train.", "parameters": {"type": "object"}},
}
TALK = [
    {"role": "system", "content": "You help travellers. " * 40},
    {"role": "user", "content": "When does the next train leave?"},
]
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": TALK, "max_tokens": 2}),
    "chat with parts": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello " * 50}]}], "max_tokens": 2},
    ),
    "chat with tools": ("/v1/chat/completions", {"messages": TALK, "tools": [TOOL], "max_tokens": 2}),
    "chat with a tool's answer": (
        "/v1/chat/completions",
        {
            "messages": [
                *TALK,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "find_train", "arguments": '{"to": "B"}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": '{"departs": "10:04"}'},
            ],
            "tools": [TOOL],
            "max_tokens": 2,
        },
    ),
    "completions": ("/v1/completions", {"prompt": "Once upon a time " * 30, "max_tokens": 2}),
    "completions of token ids": ("/v1/completions", {"prompt": list(range(100, 200)), "max_tokens": 2}),
    "messages": ("/v1/messages", {"messages": TALK[1:], "system": "Be kind. " * 50, "max_tokens": 2}),
    "messages with tools": (
        "/v1/messages",
        {
            "messages": TALK[1:],
            "system": [{"type": "text", "text": "Be kind."}],
            "tools": [{"name": "find_train", "description": "Find a train.", "input_schema": {"type": "object"}}],
            "max_tokens": 2,
        },
    ),
    "responses": ("/v1/responses", {"input": "Tell me a story. " * 20, "max_output_tokens": 2}),
    "responses with instructions": (
        "/v1/responses",
        {"input": [{"role": "user", "content": "Hello"}], "instructions": "Be brief. " * 30, "max_output_tokens": 2},
    ),
}


def prompt_tokens(answer: dict[str, Any]) -> int:
    """The engine's count, in whichever API's words."""
    usage = answer["usage"]
    if "prompt_tokens" in usage:
        return int(usage["prompt_tokens"])
    cached = usage.get("cache_read_input_tokens", 0) + usage.get("cache_creation_input_tokens", 0)
    return int(usage["input_tokens"]) + (cached if "cache_read_input_tokens" in usage else 0)


@pytest.mark.parametrize("name", BODIES)
def test_the_router_counts_the_tokens_that_the_engine_counts(client: httpx.Client, run_model: str, name: str) -> None:
    """The same number on both sides: the router rendered the prompt as the engine did."""
    path, body = BODIES[name]
    response = client.post(path, json={"model": run_model, **body})
    assert response.status_code == 200, response.text
    assert int(response.headers[PROMPT_TOKENS_HEADER]) == prompt_tokens(response.json())
    assert response.headers[POLICY_HEADER] == "prefix_affinity"
    assert response.headers[REASON_HEADER] in {"prefix", "ring", "spill"}


@pytest.mark.parametrize("name", BODIES)
def test_a_repeated_prompt_goes_where_it_is_cached(client: httpx.Client, run_model: str, name: str) -> None:
    """Through whichever router: both know of it."""
    path, body = BODIES[name]
    responses = [client.post(path, json={"model": run_model, **body}) for _ in range(4)]
    assert len({response.headers[REPLICA_HEADER] for response in responses}) == 1
    believed = [int(response.headers[BELIEVED_CACHED_TOKENS_HEADER]) for response in responses]
    assert believed[-1] == (prompt_tokens(responses[0].json()) - 1) // 32 * 32


def test_belief_and_engine_agree_on_cached_tokens(client: httpx.Client, run_model: str) -> None:
    """Over a conversation that grows, turn by turn."""
    messages = [{"role": "system", "content": "A conversation that nobody else has. " * 20}]
    for turn in range(5):
        messages.append({"role": "user", "content": f"Question {turn}: " + "and so on " * 20})
        body = {"model": run_model, "messages": messages, "max_tokens": 1}
        response = client.post("/v1/chat/completions", json=body)
        cached = response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert int(response.headers[BELIEVED_CACHED_TOKENS_HEADER]) == cached
        assert (cached > 0) is (turn > 0)
        messages.append({"role": "assistant", "content": "An answer, as recorded."})


def test_a_stream_is_explained_and_complete(client: httpx.Client, run_model: str) -> None:
    """Headers first, then vLLM's own events, untouched."""
    body = {"model": run_model, "messages": TALK, "max_tokens": 4, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert response.headers[REPLICA_HEADER]
    assert events[-1] == "[DONE]"
    assert [json.loads(event)["object"] for event in events[:-1]] == ["chat.completion.chunk"] * (len(events) - 1)


def test_several_prompts_are_served_without_a_key(client: httpx.Client, run_model: str) -> None:
    """A list of prompts has no single prefix, but a length; the reason says so."""
    response = client.post("/v1/completions", json={"model": run_model, "prompt": ["a", "b"], "max_tokens": 1})
    assert (response.status_code, response.headers[REASON_HEADER]) == (200, "several_prompts")
    assert int(response.headers[PROMPT_TOKENS_HEADER]) == response.json()["usage"]["prompt_tokens"]


def test_a_client_cannot_write_the_note(client: httpx.Client, run_model: str) -> None:
    """HAProxy strips it, so nobody can fake a decision or release another's reservation."""
    body = {"model": run_model, "prompt": "x", "max_tokens": 1}
    forged = {"x-serve-router-warmroute": "forged;r;p;why;1;1"}
    response = client.post("/v1/completions", json=body, headers=forged)
    assert response.headers[REASON_HEADER] not in {"why", UNROUTED}


NOT_COMPUTED: dict[str, tuple[str, dict[str, Any], int]] = {
    "tokenised": ("/tokenize", {"messages": TALK}, 200),
    "counted": ("/v1/messages/count_tokens", {"messages": TALK[1:]}, 200),
    "refused": ("/v1/chat/completions", {"messages": TALK, "max_tokens": -1}, 400),
    "refused in a stream": (
        "/v1/chat/completions",
        {"messages": TALK, "logit_bias": {"999999": 1}, "stream": True},
        200,
    ),
}


@pytest.mark.parametrize("name", NOT_COMPUTED)
def test_nothing_is_said_of_a_prompt_that_is_not_computed(client: httpx.Client, run_model: str, name: str) -> None:
    """Though it is cached: the answer has the request's id and no other header of ours."""
    client.post("/v1/chat/completions", json={"model": run_model, "messages": TALK, "max_tokens": 1})
    path, body, status = NOT_COMPUTED[name]
    response = client.post(path, json={"model": run_model, **body})
    assert response.status_code == status, response.text
    assert [each for each in response.headers if each.startswith(EXPLAIN_PREFIX)] == [REQUEST_ID_HEADER]


def test_models_are_listed_unrouted(client: httpx.Client, run_model: str) -> None:
    """GETs pass the routers by."""
    response = client.get("/v1/models")
    assert [model["id"] for model in response.json()["data"]] == [run_model]
    assert response.headers[REASON_HEADER] == UNROUTED


def test_load_returns_to_zero_after_every_kind_of_request(
    client: httpx.Client, run_model: str, application: RunningApplication
) -> None:
    """Answered, refused, aborted, tokenised: in every router, for every replica."""

    def abort_stream(number: int) -> None:
        body = {"model": run_model, "prompt": f"Abort {number} " * 400, "max_tokens": 200, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as response:
            next(response.iter_lines())

    def ask(number: int) -> None:
        path, body = list(BODIES.values())[number % len(BODIES)]
        client.post(path, json={"model": run_model, **body})

    def refuse(number: int) -> None:
        client.post("/v1/completions", json={"model": run_model, "prompt": "x", "max_tokens": -number - 1})

    def several(number: int) -> None:
        client.post(
            "/v1/completions", json={"model": run_model, "prompt": ["a", f"b{number}"], "max_tokens": 1, "n": 2}
        )

    def tokenize(number: int) -> None:
        client.post("/tokenize", json={"model": run_model, "prompt": f"text {number}"})

    with ThreadPoolExecutor(8) as pool:
        for kind in (abort_stream, ask, refuse, several, tokenize):
            list(pool.map(kind, range(6)))
    application.wait_until_idle()
    for router in application.routers():
        for replica in router.replicas.values():
            assert (replica.pending_tokens, replica.waiting, replica.running) == (0, 0, 0)
