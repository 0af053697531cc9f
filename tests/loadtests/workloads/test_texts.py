"""Texts: the project's own, files in OpenAI's format, and the sources in a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from loadtests.workloads import TextsError, Workload, default_texts, read_texts, session_at
from loadtests.workloads.dialogues import Dialogue
from loadtests.workloads.documents import Document

HELLO = [{"role": "user", "content": "Hello there."}, {"role": "assistant", "content": "Good day to you."}]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]}
TOOL = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}


def write(path: Path, *records: dict[str, Any]) -> Path:
    """As JSON Lines."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return path


def compress(path: Path, content: object) -> None:
    """As one line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zstandard.open(path, "wt") as file:
        file.write(json.dumps(content))


def test_the_own_set_serves_every_workload() -> None:
    """Dialogues with and without tools, documents with questions, sentences."""
    texts = default_texts()
    assert len(texts.chats) == len(texts.agents) == 16
    assert all(len(each.text) < 4_000 and each.questions for each in texts.documents)
    assert all(len(each) >= 30 for each in texts.sentences)


def test_a_file_replaces_what_it_has(tmp_path: Path) -> None:
    """Its conversations, also as agents where tools are listed; documents stay the project's own."""
    texts = read_texts(write(tmp_path / "own.jsonl", {"messages": HELLO}, {"messages": HELLO, "tools": [TOOL]}))
    assert [each.messages for each in texts.chats] == [tuple(HELLO)] * 2
    assert [each.tools for each in texts.agents] == [(TOOL,)]
    assert texts.documents == default_texts().documents
    session = session_at(0, Workload.CHAT, texts, seed=1)
    assert session.turns[0].body["messages"][1]["content"] == "Reference 000000-1-chat. Hello there."


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    """As plain ones are; without tools, agents are the project's own."""
    path = tmp_path / "own.jsonl.zst"
    compress(path, {"messages": HELLO})
    assert read_texts(path).agents == default_texts().agents


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"text": "Hello"}, 'own.jsonl:1 is not an object with "messages"'),
        ({"messages": HELLO[:1]}, "own.jsonl:1 has no answer by the assistant"),
        ({"messages": [HELLO[0] | {"content": [{"type": "text"}]}, HELLO[1]]}, "own.jsonl:1 has content that is not"),
        ({"messages": [{"role": "system", "content": "Hi"}, HELLO[1]]}, "own.jsonl:1 has no message by a user"),
        ({"messages": [HELLO[0], CALL]}, "calls of tools only"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, record: dict[str, Any], complaint: str) -> None:
    """With the line."""
    with pytest.raises(TextsError, match=complaint):
        read_texts(write(tmp_path / "own.jsonl", record))


def test_an_unknown_name_is_told_all_names() -> None:
    """Which are no files."""
    with pytest.raises(TextsError, match="nothing is neither a file nor one of the sources tau_airline, oasst, rag"):
        read_texts(Path("nothing"))


@pytest.mark.parametrize("source", ["tau_airline", "oasst", "rag"])
def test_an_absent_folder_is_named(tmp_path: Path, source: str) -> None:
    """Instead of a traceback."""
    with pytest.raises(TextsError, match=tmp_path.name):
        read_texts(Path(source), folder=tmp_path)


def test_the_agent_sessions_of_tau_bench_are_read(tmp_path: Path) -> None:
    """With the tools of their airline."""
    place = tmp_path / "tau_bench"
    compress(place / "trajectories_gpt4o_airline.jsonl.zst", {"messages": HELLO})
    (place / "airline_tools.json").write_text(json.dumps([TOOL]))
    assert read_texts(Path("tau_airline"), folder=tmp_path).agents == (Dialogue(tuple(HELLO), (TOOL,)),)


def test_every_path_through_a_tree_is_a_chat(tmp_path: Path) -> None:
    """To an answer at its end; what a human said last has none."""
    said = {"role": "prompter", "text": "And then?", "replies": []}
    answers = [{"role": "assistant", "text": text, "replies": replies} for text, replies in (("A", []), ("B", [said]))]
    answers.append({"role": "assistant", "text": "C", "replies": []})
    root = {"role": "prompter", "text": "Well?", "replies": answers}
    compress(tmp_path / "chat/oasst_en_100_tree.jsonl.zst", {"prompt": root})
    chats = read_texts(Path("oasst"), folder=tmp_path).chats
    assert [[message["content"] for message in each.messages] for each in chats] == [["Well?", "A"], ["Well?", "C"]]


def test_documents_are_read_with_their_questions(tmp_path: Path) -> None:
    """Articles, and source files that have questions and are not too long."""
    paragraph = {"context": "It rained.", "qas": [{"question": "When?", "answers": [{"text": "On Monday"}]}]}
    compress(tmp_path / "rag/xquad_en.json.zst", {"data": [{"paragraphs": [paragraph, paragraph]}]})
    files = [{"original_uuid": uuid, "content": uuid * length} for uuid, length in (("a", 9), ("b", 20_000), ("c", 9))]
    compress(tmp_path / "rag/codebase_chunks.json.zst", files)
    asked = {"query": "Why?", "answer": "Because.", "golden_doc_uuids": ["a", "b"]}
    compress(tmp_path / "rag/codebase_eval.jsonl.zst", asked)
    assert read_texts(Path("rag"), folder=tmp_path).documents == (
        Document("It rained.\n\nIt rained.", (("When?", "On Monday"), ("When?", "On Monday"))),
        Document("aaaaaaaaa", (("Why?", "Because."),)),
    )
