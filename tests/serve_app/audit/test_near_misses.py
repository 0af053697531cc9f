"""What looks like a defect and is none, beside what is one: each kind, with a case on either side of its border."""

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from serve_app.audit.kind import KindName
from serve_app.audit.kinds.personal_data import personal_data
from tests.serve_app.audit.logs import POLICY, QUESTIONS, TOOLS, Body, audited, chat, conversation, of_kind

Make = Callable[[int, int, int], Body]
LONG = POLICY * 3
"""A system prompt that is long enough for providers to cache, so that nothing is said of its length."""
MARK = {"cache_control": {"type": "ephemeral"}}


def log(make: Make, *, num_talks: int = 5, num_turns: int = 2) -> list[Body]:
    """Turn by turn; `make` is given the request's number, the conversation and the turn."""
    places = [(talk, turn) for turn in range(num_turns) for talk in range(num_talks)]
    return [make(number, talk, turn) for number, (talk, turn) in enumerate(places)]


def systems(make: Callable[[int], str], *, num_talks: int = 5, **others: Any) -> list[Body]:
    """Chats with a system prompt for each request's number."""
    return log(lambda n, talk, turn: chat(make(n), *conversation(talk, turn), **others), num_talks=num_talks)


def tools_of(make: Callable[[int], list[Body]]) -> list[Body]:
    """Chats with tools for each request's number."""
    return log(lambda n, talk, turn: chat(LONG, *conversation(talk, turn), tools=make(n)))


def marked(system_marks: tuple[bool, ...], *said: str, tools: bool = False, num_extra: int = 0) -> Body:
    """For Anthropic's API: parts of the system prompt with or without breakpoints, and one on the last message."""
    system = [{"type": "text", "text": LONG} | (MARK if is_marked else {}) for is_marked in system_marks]
    talk: list[Body] = [
        {"role": ("user", "assistant")[place % 2], "content": [{"type": "text", "text": text}]}
        for place, text in enumerate(said)
    ]
    talk[-1]["content"][0] |= MARK
    talk[-1]["content"] += [{"type": "text", "text": "more", **MARK}] * num_extra
    own = [{"name": "book", "description": "Books.", "input_schema": {}, **(MARK if tools else {})}]
    return {"model": "claude-sonnet-4-5", "max_tokens": 9, "tools": own, "system": system, "messages": talk}


def without_last_mark(talk: int, turn: int) -> Body:
    """A breakpoint on the system prompt only."""
    body = marked((True,), *conversation(talk, turn))
    del body["messages"][-1]["content"][0]["cache_control"]
    return body


def rewritten(edit: Callable[[tuple[str, ...]], tuple[str, ...]]) -> list[Body]:
    """Conversations of four turns whose earlier messages are edited in the last two."""
    return log(
        lambda _, talk, turn: chat(LONG, *(edit(conversation(talk, turn)) if turn > 1 else conversation(talk, turn))),
        num_turns=4,
    )


HAS_IT: Mapping[str, tuple[KindName, list[Body]]] = {
    "a clock before the policy": (KindName.VOLATILE, systems(lambda n: f"It is 10:{n:02}.\n{LONG}")),
    "a date that a conversation follows": (
        KindName.VOLATILE,
        systems(lambda n: f"{LONG}\nToday: 2026-11-{n + 1:02}", num_talks=9),
    ),
    "a date in the middle": (KindName.VOLATILE, systems(lambda n: f"{POLICY}\nToday: 2026-11-{n + 1:02}\n{LONG}")),
    "a UUID before the policy": (
        KindName.VOLATILE,
        systems(lambda n: f"Request {n:08x}-0000-4000-8000-{n:012x}\n{LONG}"),
    ),
    "a counter before the policy": (KindName.VOLATILE, systems(lambda n: f"You have {100 - n} credits left.\n{LONG}")),
    "a name before the policy": (
        KindName.VOLATILE,
        systems(lambda n: f"You talk to {('Ann', 'Bo', 'Chidi', 'Dana', 'Eve')[n % 5]}.\n{LONG}"),
    ),
    "a clock at the end, before tools": (
        KindName.VOLATILE,
        systems(lambda n: f"{LONG}\nIt is 10:{n:02}.", tools=TOOLS),
    ),
    "documents before the policy": (
        KindName.LATE_STATIC,
        systems(lambda n: f"<doc>{Random(n % 5).randbytes(120).hex(' ')}</doc>\n{LONG}"),
    ),
    "documents before tools": (
        KindName.LATE_STATIC,
        systems(lambda n: f"{LONG}\n<doc>{Random(n % 5).randbytes(120).hex(' ')}</doc>", tools=TOOLS),
    ),
    "spaces at line ends in some": (KindName.TRIVIA, systems(lambda n: LONG.replace(".\n", ". \n") if n % 2 else LONG)),
    "Windows line ends in some": (KindName.TRIVIA, systems(lambda n: LONG.replace("\n", "\r\n") if n % 2 else LONG)),
    "a decomposed letter in some": (
        KindName.TRIVIA,
        systems(lambda n: f"Cafe\u0301.\n{LONG}" if n % 2 else f"Caf\u00e9.\n{LONG}"),
    ),
    "a zero-width space in some": (
        KindName.TRIVIA,
        systems(lambda n: f"Hi\u200b.\n{LONG}" if n % 2 else f"Hi.\n{LONG}"),
    ),
    "an edit without a version": (
        KindName.VERSION,
        systems(lambda n: f"{LONG}\nBe {'kind' if n < 5 else 'brief'}.\n{POLICY[::-1]}"),
    ),
    "a version without an edit": (KindName.VERSION, systems(lambda n: f"{LONG}\nVersion: 1.{n // 5}\n{POLICY[::-1]}")),
    "shuffled tools": (KindName.TOOL_ORDER, tools_of(lambda n: Random(n).sample(TOOLS, len(TOOLS)))),
    "two tools that changed places once": (
        KindName.TOOL_ORDER,
        tools_of(lambda n: [*TOOLS[:2], *(reversed(TOOLS[2:]) if n == 7 else TOOLS[2:])]),
    ),
    "schemas with reversed keys": (
        KindName.JSON_FORM,
        tools_of(lambda n: [dict(reversed(each.items())) if n % 2 else each for each in TOOLS]),
    ),
    "JSON in a system prompt, compact in some": (
        KindName.JSON_FORM,
        systems(
            lambda n: (
                f'{LONG}\nLimits: {{"bags":{"" if n % 2 else " "}2,"seats":{"" if n % 2 else " "}4}}\n{POLICY[::-1]}'
            )
        ),
    ),
    "the oldest messages dropped": (KindName.HISTORY, rewritten(lambda said: said[2:])),
    "an answer cut": (KindName.HISTORY, rewritten(lambda said: (said[0], said[1][:20], *said[2:]))),
    "a question edited": (KindName.HISTORY, rewritten(lambda said: (said[0].upper(), *said[1:]))),
    "thinking on and off": (
        KindName.PARAMETERS,
        log(
            lambda n, talk, turn: chat(
                LONG, *conversation(talk, turn), chat_template_kwargs={"enable_thinking": bool(n % 2)}
            )
        ),
    ),
    "reasoning effort in some": (
        KindName.PARAMETERS,
        log(
            lambda n, talk, turn: chat(
                LONG, *conversation(talk, turn), **({"reasoning_effort": "high"} if n % 2 else {})
            )
        ),
    ),
    "tools without choice in some": (
        KindName.PARAMETERS,
        log(
            lambda n, talk, turn: chat(
                LONG, *conversation(talk, turn), tools=TOOLS, tool_choice="none" if n % 2 else "auto"
            )
        ),
    ),
    "three conversations under a short prompt": (
        KindName.SHORT_PREFIX,
        log(lambda _, talk, turn: chat("Be brief and kind.", *conversation(talk, turn)), num_talks=3),
    ),
    "no breakpoint before the conversation": (
        KindName.BREAKPOINTS,
        log(lambda _, talk, turn: marked((False,), *conversation(talk, turn))),
    ),
    "no breakpoint on the last message": (
        KindName.BREAKPOINTS,
        log(lambda _, talk, turn: without_last_mark(talk, turn)),
    ),
    "five breakpoints": (
        KindName.BREAKPOINTS,
        log(lambda _, talk, turn: marked((True,), *conversation(talk, turn), tools=True, num_extra=2)),
    ),
    "a private key": (
        KindName.SECRET,
        systems(lambda _: f"{LONG}\n-----BEGIN RSA PRIVATE KEY-----\n{POLICY[::-1]}"),
    ),
    "an e-mail address of someone": (KindName.PERSONAL_DATA, systems(lambda _: f"{LONG}\nAsk ann.adler@posteo.de.")),
}
HAS_NOTHING: Mapping[str, list[Body]] = {
    "the same clock in all": systems(lambda _: f"It is 10:00.\n{LONG}"),
    "a date that only other conversations change": log(
        lambda _, talk, turn: chat(f"{LONG}\nToday: 2026-11-{talk + 1:02}", *conversation(talk, turn)), num_talks=9
    ),
    "a date that no conversation follows": [
        chat(f"{LONG}\nToday: 2026-11-{n + 1:02}", *conversation(n, 0)) for n in range(9)
    ],
    "two languages that come and go": systems(
        lambda n: f"{LONG}\nAnswer in {('French', 'German')[n % 2]}.\n{POLICY[::-1]}"
    ),
    "Windows line ends in all": systems(lambda _: LONG.replace("\n", "\r\n")),
    "a new version with new text": systems(
        lambda n: f"{LONG}\nVersion: 1.{n // 5}\n{POLICY[::-1]}\nBe {'kind' if n < 5 else 'brief'}.\n{POLICY.upper()}"
    ),
    "tools unsorted, in one order": tools_of(lambda _: list(reversed(TOOLS))),
    "keys unsorted, in one order": tools_of(lambda _: [dict(reversed(each.items())) for each in TOOLS]),
    "JSON with other values in one style": systems(
        lambda n: f'{LONG}\nLimits: {{"bags": {n % 2}, "seats": 4, "meals": 1}}\n{POLICY[::-1]}'
    ),
    "messages appended": log(lambda _, talk, turn: chat(LONG, *conversation(talk, turn)), num_turns=4),
    "messages branched off": log(
        lambda n, talk, turn: chat(LONG, *conversation(talk, turn)[:-1], f"{QUESTIONS[n % 4]} Again, {n}."), num_turns=3
    ),
    "thinking on in all": log(
        lambda _, talk, turn: chat(LONG, *conversation(talk, turn), chat_template_kwargs={"enable_thinking": True})
    ),
    "other temperatures": log(lambda n, talk, turn: chat(LONG, *conversation(talk, turn), temperature=n / 10)),
    "breakpoints on system prompt and last message": log(
        lambda _, talk, turn: marked((True,), *conversation(talk, turn))
    ),
    "breakpoints on the last tool only": log(
        lambda _, talk, turn: marked((False,), *conversation(talk, turn), tools=True)
    ),
    "no breakpoint on the only message": [without_last_mark(n, 0) for n in range(5)],
    "exactly four breakpoints": log(
        lambda _, talk, turn: marked((True,), *conversation(talk, turn), tools=True, num_extra=1)
    ),
    "a word that looks like a key": systems(lambda _: f"{LONG}\nThe password is never told. AKIA is a prefix of keys."),
    "addresses of no one": systems(lambda _: f"{LONG}\nWrite to support@posteo.de or to you@example.com."),
}


@pytest.mark.parametrize("name", HAS_IT)
def test_the_defect_is_found_alone(tmp_path: Path, name: str) -> None:
    """In a log that has nothing else."""
    kind, bodies = HAS_IT[name]
    done = audited(tmp_path / "log", bodies)
    assert {finding.kind for finding in done.findings} == {kind}
    for finding in of_kind(done, kind):
        assert 0 < finding.num_requests <= finding.num_in_group <= len(bodies)
        assert 1 <= finding.example.line <= len(bodies)
        assert finding.what


@pytest.mark.parametrize("name", HAS_NOTHING)
def test_the_near_miss_is_not(tmp_path: Path, name: str) -> None:
    """It differs in one thing from a log that has the defect."""
    assert audited(tmp_path / "log", HAS_NOTHING[name]).findings == []


@pytest.mark.parametrize("num_talks", [2, 3])
def test_two_conversations_say_nothing_about_a_short_prefix(tmp_path: Path, num_talks: int) -> None:
    """Three do."""
    bodies = log(lambda _, talk, turn: chat("Be brief and kind.", *conversation(talk, turn)), num_talks=num_talks)
    done = audited(tmp_path / "log", bodies)
    assert bool(of_kind(done, KindName.SHORT_PREFIX)) is (num_talks > 2)


def test_the_least_that_providers_cache_is_an_option(tmp_path: Path) -> None:
    """The border is the number of tokens that conversations share."""
    bodies = log(lambda _, talk, turn: chat(POLICY, *conversation(talk, turn)))
    shared = audited(tmp_path / "log", bodies).applications[0].application.shareable_tokens
    assert shared is not None
    assert audited(tmp_path / "log", bodies, min_tokens=shared).findings == []
    (finding,) = audited(tmp_path / "log", bodies, min_tokens=shared + 1).findings
    assert finding.kind is KindName.SHORT_PREFIX
    assert f"share {shared:,} tokens" in finding.what


@pytest.mark.parametrize(
    ("number", "what"),
    [
        ("5555 5555 5555 4444", ["payment card"]),
        ("5555 5555 5555 4445", []),
        ("378282246310005", ["payment card"]),
        ("9999 9999 9999 9995", []),
        ("GB82 WEST 1234 5698 7654 32", ["IBAN"]),
        ("GB82 WEST 1234 5698 7654 33", []),
        ("078-05-1120", []),
        ("000-12-3456", []),
        ("+44 20 7946 0958", ["telephone number"]),
        ("+44 20 79", []),
        ("version 1.2.3.4 of 2026-11-30", []),
        ("10.0.0.1:8265", []),
        ("@ann", []),
        ("ann@localhost", []),
        ("git@github.com:ann/repo.git", []),
    ],
)
def test_a_digit_decides(number: str, what: list[str]) -> None:
    """Checksums and numbering plans tell what is personal from what looks like it."""
    assert [found for found, _ in personal_data(f"Note: {number}")] == what


def test_personal_data_are_placed(tmp_path: Path) -> None:
    """Each finding has the offset of its own."""
    text = f"{LONG}\nAsk ann.adler@posteo.de, or call +49 30 901820, or ask bo.berg@posteo.de."
    done = audited(tmp_path / "log", systems(lambda _: text))
    found = sorted((finding.offset or 0, finding.what) for finding in of_kind(done, KindName.PERSONAL_DATA))
    assert found == [
        (text.index("ann.adler"), "e-mail address"),
        (text.index("+49"), "telephone number"),
        (text.index("bo.berg"), "e-mail address"),
    ]


def test_what_one_user_says_is_not_shared(tmp_path: Path) -> None:
    """An address in a question is that user's own; the same one in a form that all fill in is shared."""
    own = [chat(LONG, f"{question} I am ann.adler@posteo.de.") for question in QUESTIONS]
    assert audited(tmp_path / "log", own).findings == []
    form = f"{POLICY}\nAsk ann.adler@posteo.de.\nThe question is: "
    filled = [{"prompt": f"{form}{question}"} for question in QUESTIONS]
    assert of_kind(audited(tmp_path / "log", filled), KindName.PERSONAL_DATA)


def test_a_secret_in_a_tool_is_found_there(tmp_path: Path) -> None:
    """By the place of the tool among those sorted by name."""
    described = [dict(each) for each in TOOLS]
    described[2]["function"] = {**described[2]["function"], "description": "Use AKIAZ2KLNPQRSTUV3456."}
    done = audited(tmp_path / "log", tools_of(lambda _: described))
    (finding,) = done.findings
    assert (finding.kind, finding.where) == (KindName.SECRET, "tools[2] by name")
