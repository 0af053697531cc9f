"""Small logs, and tokens for them without a model."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from router import BlockHasher, root_hash
from serve_app.audit.audit import Audit, Options, audit
from serve_app.audit.cache_replay import Keys
from serve_app.audit.kind import AuditFinding, KindName
from serve_app.audit.layout import all_texts, system_texts, tool_list
from serve_app.audit.learned import Learned
from serve_app.audit.log_file import LogLine, LogPlace
from serve_app.audit.logged_request import LoggedRequest

BLOCK_SIZE = 4
Body = dict[str, Any]

POLICY = "\n".join(
    f"Rule {number}: agents of the airline do what rule number {number} of this policy says, and nothing else."
    for number in range(40)
)
QUESTIONS = (
    "My flight was cancelled and I would like to have my money back, please.",
    "Which seats are there on the evening flight to Lisbon, and what do they cost?",
    "I have lost a blue suitcase somewhere between the gate and the baggage belt.",
    "Can my dog travel in the cabin if it weighs less than eight kilograms?",
)
ANSWERS = (
    "I am sorry to hear that. Would you tell me your booking's reference, so that I can look it up?",
    "That depends on the fare that you have booked. May I ask for the last name on the ticket?",
)


def tool(name: str) -> Body:
    """With a schema of some length."""
    properties = {
        field: {"type": "string", "description": f"The {field} that {name} needs."} for field in ("id", "date")
    }
    parameters = {"type": "object", "properties": properties, "required": ["id"]}
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": parameters}}


TOOLS = tuple(map(tool, ("book", "cancel", "find", "refund")))


def chat(system: str = POLICY, *said: str, tools: Sequence[Body] = (), **others: Any) -> Body:
    """A user and an assistant in turn."""
    talk = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    body: Body = {"model": "gpt-4o", "messages": [{"role": "system", "content": system}, *talk]}
    return body | ({"tools": list(tools)} if tools else {}) | others


def conversation(number: int, turn: int) -> tuple[str, ...]:
    """What was said up to the user's turn of that number, from 0 on."""
    question = f"{QUESTIONS[number % len(QUESTIONS)]} This is about ticket {chr(65 + number)}."
    more = [
        text
        for each in range(turn)
        for text in (f"{ANSWERS[each % 2]} ({number})", f"Yes, and for the {each + 2}. time: {question}")
    ]
    return (question, *more)


def requests(bodies: Sequence[Body]) -> list[LoggedRequest]:
    """As if they were lines of a file."""
    return [LoggedRequest(LogPlace(Path("log"), number, 0), body) for number, body in enumerate(bodies, 1)]


def learn(bodies: Sequence[Body]) -> Learned:
    """All of them."""
    learned = Learned()
    for request in requests(bodies):
        learned.see(request)
    return learned


class WordTokens:
    """Every word is a token; tools come after the system prompt."""

    block_size = BLOCK_SIZE

    def __init__(self) -> None:
        self._hasher = BlockHasher(block_size=BLOCK_SIZE)

    async def token_ids(self, body: Body) -> Sequence[int] | None:
        """None for a body with a text that says so."""
        system = [each.text for each in system_texts(body)]
        others = [each.text for each in all_texts(body)][len(system) :]
        written = [json.dumps(each) for each in tool_list(body)]
        text = "\n".join((*system, *written, json.dumps(body.get("chat_template_kwargs")), *others))
        return None if "REFUSE" in text else [hash(word) % 2**31 for word in text.replace("\n", " \n ").split(" ")]

    async def keys(self, body: Body) -> Keys | None:
        """By blocks."""
        token_ids = await self.token_ids(body)
        if token_ids is None:
            return None
        root = root_hash(model="", adapter="", tenant="", cache_salt="")
        return Keys(len(token_ids), self._hasher.hash(token_ids, root=root))


def write(path: Path, bodies: Sequence[Any]) -> Path:
    """As a log."""
    path.write_bytes(b"".join(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE) for body in bodies))
    return path


def audited(path: Path, bodies: Sequence[Body], *, content: bytes | None = None, **options: Any) -> Audit:
    """With tokens of words, and a dollar for a million saved ones; `content` takes the place of the bodies."""
    write(path, bodies)
    if content is not None:
        path.write_bytes(content)
    on_read = options.pop("on_read", lambda _: None)
    on_fixed = options.pop("on_fixed", None)
    price_saved = options.pop("price_saved", lambda _: 1.0)
    given = Options(options.pop("capacity_tokens", 1_000_000), price_saved, **options)
    return asyncio.run(audit([path], WordTokens(), given, on_read=on_read, on_fixed=on_fixed))


def of_line(body: Any) -> LogLine:
    """As the first line of a log."""
    return LogLine(LogPlace(Path("log"), 1, 0), orjson.dumps(body))


def of_kind(done: Audit, kind: KindName) -> list[AuditFinding]:
    """Its findings."""
    return [finding for finding in done.findings if finding.kind is kind]
