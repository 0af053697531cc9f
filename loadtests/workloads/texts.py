"""What sessions are made of: recorded dialogues, documents with questions, and single sentences."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import zstandard

from loadtests.workloads.dialogues import Dialogue, spoken
from loadtests.workloads.documents import Document
from loadtests.workloads.recorded_texts import TEXTS, TextsError, read_json_lines, read_text
from serve_app.demo.conversations import (
    OWN_WORKLOAD,
    RecordedConversation,
    WorkloadError,
    load_conversations,
    load_tools,
)
from serve_app.demo.model import WORKLOAD

__all__ = ["Texts", "TextsError", "default_texts", "read_texts"]

MORE_TOOLS = Path(__file__).parent / "tools.json"
"""The support desk's tools besides those that its recorded dialogues use: desks that do more have long lists."""
DOCUMENT_CHARS = 2_500
MAX_DOCUMENT_CHARS = 12_000
"""Longer ones would not fit the demo model's context three at a time."""
MIN_SENTENCE_CHARS = 30


@dataclass(frozen=True, slots=True)
class Texts:
    """Enough for every workload."""

    chats: tuple[Dialogue, ...]
    """Dialogues without tools."""
    agents: tuple[Dialogue, ...]
    """Dialogues with tools."""
    documents: tuple[Document, ...]
    """The popular ones first."""
    sentences: tuple[str, ...]


def default_texts() -> Texts:
    """The project's own: the support desk's dialogues with its tools, and documents cut from the corpus."""
    dialogues = tuple(_dialogues(load_conversations(OWN_WORKLOAD, tools=None, limit=None), place=OWN_WORKLOAD))
    more_tools = load_tools(MORE_TOOLS)
    agents = tuple(replace(each, tools=(*each.tools, *more_tools)) for each in dialogues)
    corpus = read_text(WORKLOAD / "corpus.txt")
    return Texts(_chats(dialogues), agents, tuple(_cut(corpus)), tuple(_sentences(corpus)))


def read_texts(path: Path, *, folder: Path = TEXTS) -> Texts:
    """A file of conversations in OpenAI's message format, or one of the sources in the folder of texts, by its name.

    What it does not have (documents, dialogues with tools) is the project's own.

    Args:
        path: JSON Lines, .zst too, an object with `messages` and perhaps `tools` a line; or tau_airline, oasst, rag.
        folder: where the sources by name are.

    Raises:
        TextsError: there is no such file or source, or it is not what it should be; says where.

    """
    own = default_texts()
    try:
        if path.exists():
            return _with_dialogues(own, _dialogues(load_conversations(path, tools=None, limit=None), place=path))
        if (reader := _SOURCES.get(str(path))) is None:
            names = ", ".join(_SOURCES)
            raise TextsError(f"{path} is neither a file nor one of the sources {names}: give one of these")
        return reader(folder, own)
    except WorkloadError as error:
        raise TextsError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise TextsError(f"{folder} has no texts of {path}: {type(error).__name__}") from error


def _with_dialogues(own: Texts, dialogues: Iterable[Dialogue]) -> Texts:
    read = tuple(dialogues)
    agents = tuple(each for each in read if each.tools)
    if not (chats := _chats(read)):
        raise TextsError("the conversations have calls of tools only: at least one needs an answer in words")
    words = [str(message["content"]) for each in read for message in each.messages if message.get("content")]
    sentences = tuple(_sentences("\n".join(words)))
    return replace(own, chats=chats, agents=agents or own.agents, sentences=sentences or own.sentences)


def _chats(dialogues: Iterable[Dialogue]) -> tuple[Dialogue, ...]:
    return tuple(chat for each in dialogues if (chat := spoken(each)) is not None)


def _dialogues(conversations: Iterable[RecordedConversation], *, place: Path) -> Iterator[Dialogue]:
    """The messages from the first one to the last answer."""
    for each in conversations:
        last = each.turns[-1]
        messages = (*last.messages, last.answer)
        if not all(isinstance(message.get("content") or "", str) for message in messages):
            raise TextsError(f"{each.name} has content that is not text: only texts can be sent here")
        if not any(message["role"] == "user" for message in messages):
            raise TextsError(f"{each.name} has no message by a user: remove that line of {place}")
        yield Dialogue(messages, tuple(last.tools or ()))


def _tau_airline(folder: Path, own: Texts) -> Texts:
    """200 sessions of an agent with 14 tools, of tau-bench."""
    place = folder / "tau_bench"
    path = place / "trajectories_gpt4o_airline.jsonl.zst"
    tools = load_tools(place / "airline_tools.json")
    return _with_dialogues(own, _dialogues(load_conversations(path, tools=tools, limit=None), place=path))


def _oasst(folder: Path, own: Texts) -> Texts:
    """Every path to an answer at the end of a tree of OpenAssistant's."""

    def walk(node: dict[str, Any], before: tuple[dict[str, Any], ...]) -> Iterator[Dialogue]:
        role = "user" if node["role"] == "prompter" else "assistant"
        path = (*before, {"role": role, "content": node["text"]})
        if role == "assistant" and not node["replies"]:
            yield Dialogue(path)
        for reply in node["replies"]:
            yield from walk(reply, path)

    trees = read_json_lines(folder / "chat/oasst_en_100_tree.jsonl.zst")
    return _with_dialogues(own, (each for tree in trees for each in walk(tree["prompt"], ())))


def _rag(folder: Path, own: Texts) -> Texts:
    """Articles and source files with the questions that were written for them: XQuAD, and Anthropic's cookbook."""
    articles = json.loads(read_text(folder / "rag/xquad_en.json.zst"))["data"]
    documents = [_article(each["paragraphs"]) for each in articles]
    uuid_to_questions: dict[str, list[tuple[str, str]]] = {}
    for line in read_json_lines(folder / "rag/codebase_eval.jsonl.zst"):
        for uuid in line["golden_doc_uuids"]:
            uuid_to_questions.setdefault(uuid, []).append((line["query"], line["answer"]))
    files = json.loads(read_text(folder / "rag/codebase_chunks.json.zst"))
    documents += [
        Document(each["content"], tuple(uuid_to_questions[each["original_uuid"]]))
        for each in files
        if each["original_uuid"] in uuid_to_questions and len(each["content"]) <= MAX_DOCUMENT_CHARS
    ]
    sentences = tuple(sentence for each in documents for sentence in _sentences(each.text))
    return replace(own, documents=tuple(documents), sentences=sentences)


def _article(paragraphs: list[dict[str, Any]]) -> Document:
    asked = [(each["question"], each["answers"][0]["text"]) for paragraph in paragraphs for each in paragraph["qas"]]
    return Document("\n\n".join(paragraph["context"] for paragraph in paragraphs), tuple(asked))


_SOURCES: dict[str, Callable[[Path, Texts], Texts]] = {"tau_airline": _tau_airline, "oasst": _oasst, "rag": _rag}


def _cut(text: str) -> Iterator[Document]:
    """Between paragraphs, into documents of about one length; asked is what they say after each sentence."""
    paragraphs: list[str] = []
    for paragraph in [*text.split("\n\n"), None]:
        document = "\n\n".join(paragraphs)
        if paragraph is None or len(document) >= DOCUMENT_CHARS:
            if questions := tuple(_questions(document)):
                yield Document(document, questions)
            paragraphs = []
        if paragraph is not None:
            paragraphs.append(paragraph)


def _questions(document: str) -> Iterator[tuple[str, str]]:
    sentences = list(_sentences(document))
    for sentence, following in pairwise(sentences):
        yield f"What is said after “{sentence}”?", following


def _sentences(text: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        if len(stripped := sentence.strip()) >= MIN_SENTENCE_CHARS:
            yield stripped
