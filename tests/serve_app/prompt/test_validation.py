"""No body holds up a process, and vLLM takes and refuses what it did."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from serve_app.demo.model import build_demo_model
from serve_app.prompt.body import Unreadable, UnreadableError
from serve_app.prompt.validation import (
    MAX_ERRORS,
    SLICE_ITEMS,
    bound_validation,
    check_num_sequences,
    check_texts,
    fail_fast,
    validate,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, when its app is built

MAX_ANSWER_BYTES = 65_536
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "Nothing."},
]
ANTHROPIC = [
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "Nothing."}]},
]
RESPONSES = [
    {"role": "user", "content": "And now?"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]},
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "Nothing."},
]


def example(name: str) -> tuple[type[BaseModel], str, list[dict[str, Any]], dict[str, Any]]:
    """The request of an API, its list, some items of that, and its other fields."""
    from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    return {
        "anthropic": (AnthropicMessagesRequest, "messages", ANTHROPIC, {"model": "m", "max_tokens": 5, "system": "Hi"}),
        "chat": (ChatCompletionRequest, "messages", CHAT, {"model": "m", "request_id": "r", "stop": ["x"]}),
        "responses": (ResponsesRequest, "input", RESPONSES, {"model": "m", "instructions": "Hi", "request_id": "r"}),
    }[name]


APIS = ["anthropic", "chat", "responses"]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("num_items", [1, SLICE_ITEMS, SLICE_ITEMS + 1, 3 * SLICE_ITEMS])
async def test_a_request_is_what_vllm_makes_of_it(api: str, num_items: int) -> None:
    """However long its list is, and so in how many slices it is validated."""
    model, name, items, others = example(api)
    fields = {**others, name: (items * num_items)[:num_items]}
    request = await validate(model, fields, name)
    assert len(getattr(request, name)) == num_items
    assert request.model_dump() == model.model_validate(fields).model_dump()


@pytest.mark.parametrize("api", APIS)
def test_what_is_right_stays_right(api: str) -> None:
    """With fields that vLLM does not know, and values that it makes others of."""
    model, name, items, others = example(api)
    fields = {**others, name: items, "stream": "true", "temperature": "0.5", "unknown": {"a": [1]}}
    as_made, failing_fast = (type("Own", (model,), {}) for _ in range(2))
    fail_fast(failing_fast)
    one, other = (each.model_validate(fields) for each in (as_made, failing_fast))
    assert one.model_dump() == other.model_dump()
    assert one.model_extra == other.model_extra
    for wrong in ({**fields, "temperature": "warm"}, {**others}, {**fields, name: {"a": 1}}):
        said = []
        for each in (as_made, failing_fast):
            with pytest.raises(ValidationError) as raised:
                each.model_validate(wrong)
            said.append(raised.value.errors(include_url=False))
        assert said[0] == said[1]


@pytest.mark.parametrize("api", APIS)
async def test_others_have_their_turn_in_between(api: str) -> None:
    """Once after each slice but the last."""
    model, name, items, others = example(api)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(take_turns())
    await asyncio.sleep(0)
    await validate(model, {**others, name: items * SLICE_ITEMS}, name)
    other.cancel()
    assert turns == len(items) - 1


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("num_right", [0, SLICE_ITEMS + 1])
async def test_validation_ends_with_the_first_wrong_item(api: str, num_right: int) -> None:
    """A thousand say no more than one does."""
    model, name, items, others = example(api)
    fail_fast(model)
    errors = []
    for num_wrong in (1, 1000):
        with pytest.raises(ValidationError) as raised:
            await validate(model, {**others, name: items[:1] * num_right + [{}] * num_wrong}, name)
        errors.append(raised.value.error_count())
    assert errors[0] == errors[1]


async def test_a_router_reads_no_list_longer_than_any_prompt(tmp_path: Path) -> None:
    """Each item is a token at least, so vLLM will refuse it; the router does not find that out item by item.

    A list of prompts has no key, but a length.
    """
    from serve_app.prompt.vllm_reader import PromptReader

    build_demo_model(tmp_path)
    llm = {
        "model_loading_config": {"model_id": "m", "model_source": str(tmp_path)},
        "accelerator_config": {"kind": "cpu"},
        "engine_kwargs": {"max_model_len": 1024, "enforce_eager": True},
    }
    reader = PromptReader(llm, max_memo_bytes=0)
    for fields in (
        {"messages": CHAT[:1] * 1025},
        {"messages": ANTHROPIC[1:2] * 1025},
        {"messages": [{"role": "user", "content": CHAT[1]["content"] * 1025}]},
        {"input": RESPONSES[:1] * 1025},
        {"prompt": "x", "tools": [{}] * 1025},
    ):
        with pytest.raises(UnreadableError) as raised:
            await reader.read({"model": "m", "max_tokens": 5, **fields})
        assert raised.value.reason is Unreadable.REJECTED
        assert "objects or more" in str(raised.value.__cause__), "it was refused for its length alone"
    assert len((await reader.read({"model": "m", "prompt": list(range(1000))})).token_ids) == 1000
    for fields, num_prompt_tokens in (
        ({"prompt": [[1, 2, 3], [4, 5]]}, 5),
        ({"prompt": ["a", "b c"]}, 2 + 1),
        ({"messages": [CHAT[:1], CHAT[:1]]}, None),
    ):
        with pytest.raises(UnreadableError) as raised:
            await reader.read({"model": "m", "max_tokens": 5, **fields})
        assert (raised.value.reason, raised.value.num_prompt_tokens) == (Unreadable.SEVERAL_PROMPTS, num_prompt_tokens)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """vLLM's, of a model that generates text, with no engine behind it."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.openai.api_server import build_app
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    app: FastAPI = build_app(arguments, supported_tasks=("generate",))
    app.state.args = arguments
    bound_validation(app, max_objects=2048, max_sequences=256)
    app.middleware_stack = None
    return app


WRONG = [
    ("/v1/responses", {"input": [{}] * 1000}),
    ("/v1/responses", {"input": [{"type": "web_search_call", "text": "x" * 1_000_000}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{}] * 1000}]}),
    ("/v1/responses", {"input": "x", "tools": [{}] * 1000}),
    ("/v1/responses", {"input": RESPONSES[:1] * 3000}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{}] * 3000}]}),
    ("/v1/chat/completions", {"messages": CHAT[:1], "chat_template_kwargs": dict.fromkeys(map(str, range(3000)))}),
    ("/v1/chat/completions", {"messages": [{}] * 1000}),
    ("/v1/chat/completions", {"messages": "x" * 1_000_000}),
    ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": [{}] * 1000}]}),
    ("/v1/messages/count_tokens", {"messages": [{}] * 1000}),
    ("/v1/completions", {"prompt": [[{}]] * 1000}),
    ("/tokenize", {"messages": [{}] * 1000}),
    ("/v1/completions", {"prompt": "x", "n": 257}),
    ("/v1/completions", {"prompt": ["x"] * 257}),
    ("/v1/completions", {"prompt": [[1]] * 16, "n": "17"}),
    ("/v1/chat/completions", {"messages": CHAT[:1], "n": 10**30}),
    ("/v1/chat/completions/batch", {"messages": [CHAT[:1]] * 257}),
    ("/invocations", {"prompt": "x", "n": 257}),
    ("/invocations", {"messages": CHAT[:1], "tools": [{}] * 3000}),
    ("/detokenize", {"tokens": ["x"] * 1000}),
    ("/v1/chat/completions", {"messages": CHAT[:1], "structured_outputs": "x"}),
    ("/v1/chat/completions", {"messages": CHAT[:1], "model": "x" * 5000}),
    ("/v1/responses", {"input": "x", "previous_response_id": "x" * 5000}),
]


@pytest.mark.parametrize(("path", "fields"), WRONG)
async def test_a_wrong_body_is_refused_in_a_few_words(app: FastAPI, path: str, fields: dict[str, Any]) -> None:
    """With the status and in the shape of vLLM."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post(path, json={"model": "m", **fields})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("Bad Request", 400)
    assert 1 <= error["message"].count("'loc': ") <= MAX_ERRORS, error
    assert len(response.content) < MAX_ANSWER_BYTES


@pytest.mark.parametrize("path", ["/v1/completions", "/invocations"])
async def test_more_sequences_than_may_wait_are_refused(app: FastAPI, path: str) -> None:
    """The answer has both numbers. As many as are allowed are not checked here."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post(path, json={"model": "m", "prompt": ["x"] * 10, "n": 26})
    said = "n = 26 answers to each of 10 prompts are 260 sequences, and a replica takes 256 at a time: send fewer"
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]
    check_num_sequences({"prompt": ["x"] * 8, "n": 32}, max_sequences=256)
    with pytest.raises(ValueError, match="are 264 sequences"):
        check_num_sequences({"prompt": ["x"] * 8, "n": 33}, max_sequences=256)


async def test_a_route_that_reads_its_body_itself_says_that_it_is_not_json(app: FastAPI) -> None:
    """In its own words."""
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post("/invocations", content=b"{", headers=headers)
    assert response.status_code == 400
    assert "JSON decode error" in response.text


HALF = "\ud83d"
HALVES = [
    ("/v1/chat/completions", {"messages": CHAT[:1], "stop": [HALF]}),
    ("/v1/chat/completions", {"messages": CHAT[:1], "session_id": HALF}),
    ("/v1/chat/completions", {"messages": CHAT[:1], "tools": [{"type": "function", "function": {"name": HALF}}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"cut {HALF}"}]}),
    ("/v1/chat/completions", {"messages": CHAT[:1], HALF: 1}),
    ("/v1/completions", {"prompt": [["x"], f"cut {HALF}"]}),
    ("/v1/completions", {"prompt": [5], "user": HALF}),
    ("/v1/messages", {"max_tokens": 5, "messages": ANTHROPIC[:1], "metadata": {"user_id": HALF}}),
    ("/v1/messages/count_tokens", {"messages": ANTHROPIC[:1], "system": HALF}),
    ("/v1/responses", {"input": "x", "metadata": {HALF: "x"}}),
    ("/tokenize", {"prompt": "\udc00"}),
]


@pytest.mark.parametrize(("path", "fields"), HALVES)
async def test_half_a_character_is_refused(app: FastAPI, path: str, fields: dict[str, Any]) -> None:
    """Wherever it is, and before anybody takes it."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        headers = {"content-type": "application/json"}
        response = await client.post(path, content=json.dumps({"model": "m", **fields}), headers=headers)
    assert response.status_code == 400
    assert "half of a character" in response.json()["error"]["message"]


@pytest.mark.parametrize("text", ["", "whole \U0001f9d1", "Ä\0", "\uffff"])
def test_whole_characters_pass(text: str) -> None:
    """In names and in values, however deep."""
    check_texts({text: [{text: [[1, 2], [text, 10**30]]}, None, 1.5]})


def test_every_route_fails_fast(app: FastAPI) -> None:
    """Whatever vLLM serves, and takes a collection for."""
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.body_field is not None]
    assert len(routes) >= 10
    for route in routes:
        assert route.body_field is not None
        validator = repr(route.body_field._type_adapter.validator)
        assert "fail_fast: true" in validator, route.path
        assert "fail_fast: false" not in validator, route.path


async def test_a_body_that_is_too_deep_is_refused(app: FastAPI) -> None:
    """Also where a route reads it by itself."""
    content = '{"model": "m", "prompt": "x", "deep": ' + "[" * 5000 + "]" * 5000 + "}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        for path in ("/v1/completions", "/invocations"):
            response = await client.post(path, content=content, headers={"content-type": "application/json"})
            assert response.status_code == 400


@pytest.mark.parametrize("error", [KeyError("role"), AttributeError("x"), RecursionError("x")], ids=repr)
async def test_an_error_elsewhere_stays_the_servers(app: FastAPI, error: Exception) -> None:
    """Of the same kinds; it is raised on, for Serve to log."""

    async def fail(*_: object) -> None:
        raise error

    app.state.openai_serving_completion = SimpleNamespace(create_completion=fail)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        response = await client.post("/v1/completions", json={"model": "m", "prompt": "x"})
    assert response.status_code == 500
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        with pytest.raises(type(error)) as raised:
            await client.post("/v1/completions", json={"model": "m", "prompt": "x"})
    assert raised.value is error
