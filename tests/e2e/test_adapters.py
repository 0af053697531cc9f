"""LoRA adapters through the whole path: each has a cache of its own, in the engine and in the routers' belief."""

import uuid
from typing import Any

import httpx
import pytest

from serve_app.replica_headers import (
    BELIEVED_CACHED_TOKENS_HEADER,
    PROMPT_TOKENS_HEADER,
    REASON_HEADER,
    REPLICA_HEADER,
)
from serve_app.running_application import RunningApplication
from tests.e2e.conftest import ADAPTERS
from tests.e2e.test_apis import prompt_tokens

PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses")


def body(path: str, text: str, model: str | None) -> dict[str, Any]:
    """The same prompt for whichever model; no field for none."""
    name = {} if model is None else {"model": model}
    match path:
        case "/v1/completions":
            return {**name, "prompt": text, "max_tokens": 1}
        case "/v1/responses":
            return {**name, "input": text, "max_output_tokens": 1}
    return {**name, "messages": [{"role": "user", "content": text}], "max_tokens": 1}


def cached_tokens(answer: dict[str, Any]) -> int:
    """The engine's count, in whichever API's words."""
    usage = answer["usage"]
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return int(details.get("cached_tokens", usage.get("cache_read_input_tokens", 0)))


@pytest.mark.parametrize("path", PATHS)
def test_belief_and_engine_agree_on_what_each_adapter_has(client: httpx.Client, run_model: str, path: str) -> None:
    """One prompt, for the base model by two names and for two adapters: new to each, then cached for each.

    It is as many tokens for all of them: vLLM does not use the tokenizers and templates that adapters bring along.
    """
    text = f"{uuid.uuid4()} " + "A question that all of them are asked. " * 30
    models = (run_model, *ADAPTERS, None, run_model, *ADAPTERS)
    if path == "/v1/messages":  # which needs a model
        models = tuple(model or run_model for model in models)
    home: dict[str, str] = {}
    for place, model in enumerate(models):
        response = client.post(path, json=body(path, text, model))
        assert response.status_code == 200, response.text
        assert int(response.headers[PROMPT_TOKENS_HEADER]) == prompt_tokens(response.json())
        cached = cached_tokens(response.json())
        assert int(response.headers[BELIEVED_CACHED_TOKENS_HEADER]) == cached
        assert (cached > 0) is (place > len(ADAPTERS))
        assert home.setdefault(model or run_model, response.headers[REPLICA_HEADER]) == response.headers[REPLICA_HEADER]


def test_an_adapter_says_something_else(client: httpx.Client, run_model: str) -> None:
    """So they are served, and not just named."""
    said = set()
    for model in (run_model, *ADAPTERS):
        asked = {"model": model, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
        response = client.post("/v1/completions", json=asked).json()
        assert response["model"] == model
        said.add(response["choices"][0]["text"])
    assert len(said) == 1 + len(ADAPTERS)


def test_an_unknown_adapter_is_refused_by_vllm_and_leaves_nothing(
    client: httpx.Client, run_model: str, application: RunningApplication
) -> None:
    """Its own words, and no fault of a router: also under a name that Ray could load, if it were told to."""
    for name in ("no-such-adapter", f"{run_model}:no-such-adapter", 'demo:"} {"'):
        for path in PATHS:
            response = client.post(path, json=body(path, "Hello " * 100, name))
            assert response.status_code == 404, response.text
            assert "does not exist" in response.text
            assert response.headers[REASON_HEADER] in {"ring", "prefix", "spill"}
    application.wait_until_idle()
    for router in application.routers():
        assert "routing_error" not in router["decisions"]
