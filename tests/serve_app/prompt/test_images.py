"""Images in prompts, by vLLM's own code and a tiny model that takes them: keys differ where vLLM's block hashes do."""

import asyncio
import base64
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router import hash_blocks, root_hash
from serve_app.demo.model import build_demo_model
from serve_app.prompt.body import Unreadable, UnreadableError
from serve_app.settings.vllm_options import NO_DOMAIN
from tests.vision_model import build_vision_model, image_url

BLOCK_SIZE = 16
COLOURS = ("red", "blue")
pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's and transformers' own


@pytest.fixture(scope="module")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes no images."""
    path = tmp_path_factory.mktemp("models") / "demo"
    build_demo_model(path)
    return path


@pytest.fixture(scope="module")
def vision_model(demo_model: Path) -> Path:
    """Takes them."""
    path = demo_model.parent / "vision"
    build_vision_model(path, demo_model)
    return path


def make_reader(model: Path) -> Any:
    """A router's."""
    from serve_app.prompt.vllm_reader import PromptReader

    llm = {
        "model_loading_config": {"model_id": "m", "model_source": str(model)},
        "accelerator_config": {"kind": "cpu"},
        "engine_kwargs": {"max_model_len": 2048, "enforce_eager": True, "allowed_media_domains": []},
    }
    return PromptReader(llm)


@pytest.fixture(scope="module")
def reader(vision_model: Path) -> Any:
    """A reader of the model that takes images."""
    return make_reader(vision_model)


def chat(*parts: str) -> dict[str, Any]:
    """A chat of texts, and of colours for images."""
    content = [
        {"type": "image_url", "image_url": {"url": image_url(part)}}
        if part in COLOURS
        else {"type": "text", "text": part}
        for part in parts
    ]
    return {"model": "m", "messages": [{"role": "user", "content": content}]}


PROMPTS = [
    (*before, *images, after)
    for before in ((), ("Look at this. ",), ("A text that fills a block or two, word by word. " * 2,))
    for images in ((), ("red",), ("blue",), ("red", "red"), ("red", "blue"), ("blue", "red"))
    for after in ("What is it?", "And what else is there to be seen in it?")
]


async def test_keys_differ_exactly_where_vllms_block_hashes_do(reader: Any) -> None:
    """Block by block, for each two of the prompts, each also under an adapter and a salt."""
    asked = [(parts, adapter, salt) for parts in PROMPTS for adapter, salt in (("", ""), ("a", ""), ("", "s"))]
    pairs = [
        (await own_hashes(reader, parts, adapter, salt), await vllm_hashes(reader, parts, adapter, salt))
        for parts, adapter, salt in asked
    ]
    assert all(len(ours) == len(theirs) for ours, theirs in pairs)
    assert any(len(ours) > 4 for ours, _ in pairs)
    num_equal = 0
    for (ours, theirs), (other_ours, other_theirs) in itertools.combinations(pairs, 2):
        are_equal = [one == other for one, other in zip(ours, other_ours, strict=False)]
        assert are_equal == [one == other for one, other in zip(theirs, other_theirs, strict=False)]
        num_equal += sum(are_equal)
    assert num_equal > 100


async def own_hashes(reader: Any, parts: tuple[str, ...], adapter: str, salt: str) -> tuple[int, ...]:
    """The router's."""
    prompt = await reader.read(chat(*parts))
    root = root_hash(model="m", adapter=adapter, tenant="", cache_salt=salt)
    return hash_blocks(prompt.key_ids, block_size=BLOCK_SIZE, root=root)


async def vllm_hashes(reader: Any, parts: tuple[str, ...], adapter: str, salt: str) -> tuple[bytes, ...]:
    """The engine's."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.lora.request import LoRARequest
    from vllm.multimodal.inputs import MultiModalFeatureSpec
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.request import Request

    init_none_hash(sha256)
    _, (rendered,) = await reader._renderer.render_chat(ChatCompletionRequest.model_validate(chat(*parts)))
    prompt = await reader.read(chat(*parts))
    assert list(prompt.token_ids) == list(rendered["prompt_token_ids"]), "which router and replica compare"
    places = rendered.get("mm_placeholders", {}).get("image", [])
    hashes = rendered.get("mm_hashes", {}).get("image", [])
    features = [
        MultiModalFeatureSpec(data=None, modality="image", identifier=content, mm_position=place, mm_hash=content)
        for content, place in zip(hashes, places, strict=True)
    ]
    request = Request(
        "name",
        list(rendered["prompt_token_ids"]),
        SamplingParams(),
        None,
        mm_features=features,
        lora_request=LoRARequest(adapter, 1, "/nowhere") if adapter else None,
        cache_salt=salt or None,
        block_hasher=get_request_block_hasher(BLOCK_SIZE, sha256),
    )
    return tuple(request.block_hashes)


async def test_an_image_has_one_key_in_every_api(reader: Any) -> None:
    """However it is written."""
    url = image_url("red")
    data = url.partition(",")[2]
    text, source = "What is this?", {"type": "base64", "media_type": "image/png", "data": data}
    bodies = (
        {"messages": [user({"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text})]},
        {"messages": [user({"type": "image", "source": source}, {"type": "text", "text": text})], "max_tokens": 1},
        {
            "input": [
                user({"type": "input_image", "image_url": url, "detail": "auto"}, {"type": "input_text", "text": text})
            ]
        },
    )
    keys = {tuple((await reader.read({"model": "m", **body})).key_ids) for body in bodies}
    assert len(keys) == 1


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": list(parts)}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A host that is not ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


def naming(url: str) -> list[dict[str, Any]]:
    """Bodies of each API with this image."""
    return [
        {"model": "m", "messages": [user({"type": "image_url", "image_url": {"url": url}})]},
        {"model": "m", "messages": [user({"image_url": url})]},
        {"model": "m", "messages": [user({"type": "image", "source": {"type": "url", "url": url}})], "max_tokens": 1},
        {"model": "m", "input": [user({"type": "input_image", "image_url": url, "detail": "auto"})]},
    ]


async def refusal(reader: Any, fields: dict[str, Any]) -> UnreadableError:
    """The error for a body in which the router reads no prompt."""
    with pytest.raises(UnreadableError) as caught:
        await reader.read(fields)
    return caught.value


async def reason(reader: Any, fields: dict[str, Any]) -> Unreadable:
    """The reason of that error."""
    return (await refusal(reader, fields)).reason


async def test_no_url_is_opened(reader: Any, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart at once; and if it were not, vLLM would refuse it here."""
    for fields in naming(f"http://127.0.0.1:{listener.getsockname()[1]}/image.png"):
        assert await reason(reader, fields) is Unreadable.UNSUPPORTED_INPUT
        with monkeypatch.context() as patch:
            patch.setattr("serve_app.prompt.vllm_reader.has_unread_media", lambda _: False)
            error = await refusal(reader, fields)
        assert error.reason is Unreadable.REJECTED
        assert NO_DOMAIN in str(error.__cause__)
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_no_file_is_opened(reader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an image."""
    path = tmp_path / "image.png"
    path.write_bytes(base64.b64decode(image_url("red").partition(",")[2]))
    for fields in naming(path.as_uri()):
        assert await reason(reader, fields) is Unreadable.UNSUPPORTED_INPUT
        with monkeypatch.context() as patch:
            patch.setattr("serve_app.prompt.vllm_reader.has_unread_media", lambda _: False)
            assert await reason(reader, fields) in {Unreadable.RENDER_ERROR, Unreadable.REJECTED}


async def test_a_file_that_must_not_be_read_is_the_clients_fault(reader: Any) -> None:
    """Though vLLM says no more than that it cannot."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.exceptions import VLLMValidationError

    from serve_app.prompt.vllm_client_faults import of_the_client

    request = ChatCompletionRequest.model_validate(naming("file:///etc/passwd")[0])
    with pytest.raises(VLLMValidationError, match="RuntimeError"), of_the_client():
        await reader._renderer.render_chat(request)


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AAAA", "data:image/png;base64,!", "data:image/png,AAAA", "data:"]
)
async def test_a_broken_image_is_vllms_to_refuse(reader: Any, url: str) -> None:
    """Here it is counted."""
    assert await reason(reader, chat("red") | {"messages": naming(url)[0]["messages"]}) is Unreadable.REJECTED


async def test_a_model_without_eyes_refuses_images(demo_model: Path, listener: socket.socket) -> None:
    """As vLLM does, without a look at them."""
    reader = await asyncio.to_thread(make_reader, demo_model)
    for url in (image_url("red"), f"http://127.0.0.1:{listener.getsockname()[1]}/image.png", "file:///etc/passwd"):
        for fields in naming(url):
            assert await reason(reader, fields) is Unreadable.REJECTED
    with pytest.raises(BlockingIOError):
        listener.accept()
