"""The vendors' own Python SDKs, unchanged."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from serve_app.local.cluster import LocalRun

SYSTEM = "You answer questions about a railway that exists only in this test. " * 20


@pytest.fixture
def openai_client(run: LocalRun) -> Iterator[openai.OpenAI]:
    """As an application would make it."""
    with openai.OpenAI(base_url=f"{run.url}/v1", api_key="unused") as client:
        yield client


@pytest.fixture
def anthropic_client(run: LocalRun) -> Iterator[anthropic.Anthropic]:
    """As an application would make it."""
    with anthropic.Anthropic(base_url=run.url, api_key="unused") as client:
        yield client


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streaming"])
def test_openai_reports_the_second_turns_cached_tokens(
    openai_client: openai.OpenAI, run_model: str, stream: bool
) -> None:
    """In `usage.prompt_tokens_details.cached_tokens`."""
    messages = [
        {"role": "system", "content": f"OpenAI, {stream}. {SYSTEM}"},
        {"role": "user", "content": "Where does the line begin?"},
    ]
    cached = []
    for _ in range(2):
        if stream:
            chunks = list(
                openai_client.chat.completions.create(
                    model=run_model,
                    messages=messages,
                    max_tokens=4,
                    stream=True,
                    stream_options={"include_usage": True},
                )
            )
            answer = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            usage = chunks[-1].usage
        else:
            completion = openai_client.chat.completions.create(model=run_model, messages=messages, max_tokens=4)
            answer, usage = completion.choices[0].message.content or "", completion.usage
        cached.append(usage.prompt_tokens_details.cached_tokens or 0)
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And where does it end?"}]
    assert cached[0] == 0
    assert cached[1] > 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streaming"])
def test_anthropic_reports_the_second_turns_cached_tokens(
    anthropic_client: anthropic.Anthropic, run_model: str, stream: bool
) -> None:
    """In `usage.cache_read_input_tokens`."""
    messages = [{"role": "user", "content": "Where does the line begin?"}]
    cached = []
    for _ in range(2):
        request = {
            "model": run_model,
            "system": f"Anthropic, {stream}. {SYSTEM}",
            "messages": messages,
            "max_tokens": 4,
        }
        if stream:
            with anthropic_client.messages.stream(**request) as events:
                message = events.get_final_message()
        else:
            message = anthropic_client.messages.create(**request)
        cached.append(message.usage.cache_read_input_tokens or 0)
        answer = "".join(block.text for block in message.content if block.type == "text")
        messages += [
            {"role": "assistant", "content": answer or "."},
            {"role": "user", "content": "And where does it end?"},
        ]
    assert cached[0] == 0
    assert cached[1] > 200
