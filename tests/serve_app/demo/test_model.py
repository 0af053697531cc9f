"""The demo model: its chat template, its tokenizer, its build, and the texts it is made from."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.demo import model as demo_model
from serve_app.demo.model import DEFAULT_CORPUS, SPECIAL_TOKENS, build_demo_model, is_current

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RECORDS: list[dict[str, Any]] = [
    json.loads(line) for line in DEFAULT_CORPUS[0].read_text(encoding="utf-8").splitlines()
]
SMALL_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the model once, since all tests but those of the build only read it."""
    path = tmp_path_factory.mktemp("demo") / "model"
    build_demo_model(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(model_path: Path) -> Any:
    """Load the tokenizer the way an engine does."""
    return transformers.AutoTokenizer.from_pretrained(str(model_path))


@pytest.fixture
def small_corpus(tmp_path: Path) -> list[Path]:
    """Give a corpus that is quick to learn and may be edited."""
    text = tmp_path / "corpus.txt"
    text.write_text("a train, a bicycle, another train\n" * 20, encoding="utf-8")
    return [text]


def render(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    """Render a conversation to text."""
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def call(arguments: object) -> dict[str, Any]:
    """Make an assistant's tool call."""
    return {"id": "c1", "type": "function", "function": {"name": "look", "arguments": arguments}}


def test_template_renders_every_role(tokenizer: Any) -> None:
    """Each role, the tools and both notations of a content come out in ChatML."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call({"at": "<b>"}), call('{"at": 2}')],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "[1]"},
        {"role": "tool", "tool_call_id": "c1", "content": "[2]"},
        {"role": "assistant", "content": "One. "},
    ]
    head, _, turns = render(tokenizer, messages, tools=[tool], add_generation_prompt=True).partition(
        "</tool_call><|im_end|>\n"
    )
    assert head.startswith("<|im_start|>system\nBe kind.\n\n# Tools\n")
    assert f"<tools>\n{json.dumps(tool)}\n</tools>" in head
    assert turns == (
        "<|im_start|>user\nHi you<|im_end|>\n"
        "<|im_start|>assistant\n"
        '<tool_call>\n{"name": "look", "arguments": {"at": "<b>"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "look", "arguments": {"at": 2}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n[1]\n</tool_response><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n[2]\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nOne. <|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_template_without_tools_or_system_adds_nothing(tokenizer: Any) -> None:
    """A lone user message gets no system turn, and a system message one turn only."""
    user = {"role": "user", "content": "Hi"}
    assert render(tokenizer, [user]) == "<|im_start|>user\nHi<|im_end|>\n"
    rendered = render(tokenizer, [{"role": "system", "content": "S"}, user])
    assert rendered == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"


def test_content_beside_a_tool_call_keeps_its_line(tokenizer: Any) -> None:
    """What an assistant says before a call is set apart by one line break."""
    message = {"role": "assistant", "content": "Wait.", "tool_calls": [call("")]}
    assert render(tokenizer, [message]) == (
        '<|im_start|>assistant\nWait.\n<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call><|im_end|>\n'
    )


@pytest.mark.parametrize("record", RECORDS, ids=[record["id"] for record in RECORDS])
def test_rendering_is_append_only(tokenizer: Any, record: dict[str, Any]) -> None:
    """Every prefix of a conversation renders to a prefix of the whole, in text and in tokens."""
    messages, tools = record["messages"], record["tools"]
    whole = render(tokenizer, messages, tools=tools)
    ids = tokenizer(whole)["input_ids"]
    for length in range(1, len(messages)):
        part = render(tokenizer, messages[:length], tools=tools)
        assert whole.startswith(part)
        part_ids = tokenizer(part)["input_ids"]
        assert ids[: len(part_ids)] == part_ids
        if messages[length]["role"] == "assistant":
            prompt = render(tokenizer, messages[:length], tools=tools, add_generation_prompt=True)
            assert whole.startswith(prompt)


@given(text=st.text())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokenizer_round_trips(tokenizer: Any, text: str) -> None:
    """Any text survives encoding and decoding, whatever its script."""
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_special_tokens_are_single(tokenizer: Any) -> None:
    """Each marker is one token, and the roles of end and padding are set."""
    for number, token in enumerate(SPECIAL_TOKENS):
        assert tokenizer(token)["input_ids"] == [number]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.bos_token is None
    assert tokenizer.model_max_length == demo_model.MAX_LENGTH
    assert len(tokenizer) <= demo_model.VOCAB_SIZE


def test_weights_load(model_path: Path, tokenizer: Any) -> None:
    """The saved weights make a model of the tokenizer's vocabulary, and it generates."""
    model = transformers.AutoModelForCausalLM.from_pretrained(str(model_path))
    assert model.config.vocab_size == len(tokenizer)
    inputs = tokenizer("Hello", return_tensors="pt")
    generated = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert generated.shape[1] == inputs["input_ids"].shape[1] + 3


def test_build_is_skipped_until_the_corpus_changes(tmp_path: Path, small_corpus: list[Path]) -> None:
    """A second build leaves the folder alone, and one after an edit replaces it."""
    path = tmp_path / "model"
    assert not is_current(path, small_corpus)
    build_demo_model(path, small_corpus)
    first = path.stat().st_ino
    build_demo_model(path, small_corpus)
    assert path.stat().st_ino == first
    small_corpus[0].write_text("an entirely different text about boats\n" * 20, encoding="utf-8")
    assert not is_current(path, small_corpus)
    build_demo_model(path, small_corpus)
    assert is_current(path, small_corpus)
    assert "boats" in (path / "tokenizer.json").read_text(encoding="utf-8")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["corpus.txt", "model"]


def test_build_is_deterministic(tmp_path: Path, model_path: Path) -> None:
    """Two builds from the same texts agree byte for byte."""
    again = tmp_path / "model"
    build_demo_model(again)
    for name in (*SMALL_FILES, "model.safetensors"):
        assert (again / name).read_bytes() == (model_path / name).read_bytes()


def test_interrupted_build_leaves_nothing(
    tmp_path: Path, small_corpus: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that stops midway leaves neither a model nor a temporary folder."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_model, "write_weights", stop)
    with pytest.raises(KeyboardInterrupt):
        build_demo_model(tmp_path / "model", small_corpus)
    assert [entry.name for entry in tmp_path.iterdir()] == ["corpus.txt"]


def test_foreign_folder_is_kept(tmp_path: Path, small_corpus: list[Path]) -> None:
    """A folder with other content is refused instead of being replaced."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "thesis.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(FileExistsError):
        build_demo_model(path, small_corpus)
    assert (path / "thesis.txt").exists()


def test_workload_is_sound() -> None:
    """The conversations share their opening, differ after it, and answer every tool call."""
    assert len(RECORDS) == len({record["id"] for record in RECORDS}) == 16
    assert len({json.dumps(record["tools"]) for record in RECORDS}) == 1
    assert len({record["messages"][0]["content"] for record in RECORDS}) == 1
    assert len({record["messages"][1]["content"] for record in RECORDS}) == len(RECORDS)
    names = {tool["function"]["name"] for tool in RECORDS[0]["tools"]}
    for record in RECORDS:
        messages = record["messages"]
        assert messages[-1]["role"] == "assistant"
        assert 6 <= sum(message["role"] == "assistant" for message in messages) <= 9
        for message, following in pairwise(messages):
            for tool_call in message.get("tool_calls", ()):
                assert tool_call["function"]["name"] in names
                json.loads(tool_call["function"]["arguments"])
                assert following["role"] == "tool"
                assert following["tool_call_id"] == tool_call["id"]
                json.loads(following["content"])
            assert (message["role"] == "assistant") != (following["role"] == "assistant") or (
                message["role"] == "system"
            )
